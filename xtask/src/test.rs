//! `./x test`: all that must hold, in the order in which a failure costs the least time.

use anyhow::Result;

use crate::{
    run::{cargo, check, release_binary, step},
    setup,
};

pub fn run(args: &[String]) -> Result<()> {
    let only = args.first().map(String::as_str);
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let tools = step("set-up", setup::everything)?;
    if wanted("lint") {
        step("format", || check(cargo().args(["fmt", "--all", "--check"])))?;
        step("licences", || check(cargo().args(["deny", "--offline", "check", "licenses", "bans", "sources"])))?;
        step("lints", || {
            check(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))
        })?;
    }
    if wanted("unit") {
        step("unit and property tests", || {
            check(cargo().args(["test", "--workspace", "--exclude", "knarr-e2e", "--quiet"]))
        })?;
    }
    if wanted("e2e") {
        let binary = step("release build", release_binary)?;
        step("end-to-end tests", || {
            let mut test = cargo();
            test.args(["test", "--package", "knarr-e2e", "--test", "e2e", "--"]).args(args.iter().skip(1));
            check(test.env("KNARR", &binary).env("KNARR_TEST_TOOLS", &tools.bin))
        })?;
    }
    println!("\nall passed");
    Ok(())
}
