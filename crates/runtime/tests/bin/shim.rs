//! What the integration tests re-execute in place of the whole program: the shim, and a stand-in for the demo app.

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let code = match args.get(1).map(String::as_str) {
        Some("shim") => knarr_runtime::shim::main(&args[2..]),
        Some("demo-app") => {
            println!("demo {}", std::env::var("VERSION").unwrap_or_default());
            loop {
                std::thread::park();
            }
        }
        _ => 2,
    };
    std::process::exit(code);
}
