//! Signals by their names, as images and pods give them.

use knarr_cri::v1::{ContainerConfig, Signal};

pub(crate) const SIGTERM: i32 = 15;

/// The signal that asks a container to end: the pod's choice, then the image's.
pub(crate) fn stop_signal(config: &ContainerConfig, image: &str) -> i32 {
    let own = config.stop_signal();
    let own = if own == Signal::RuntimeDefault { None } else { signal_number(own.as_str_name()) };
    own.or_else(|| signal_number(image)).unwrap_or(SIGTERM)
}

/// A signal as images name it: `SIGQUIT`, `QUIT` or `3`.
fn signal_number(name: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    let upper = name.trim().to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    // The realtime signals reach from 34 to 64; CRI spells the signs out.
    let short = &short.replace("PLUS", "+").replace("MINUS", "-");
    for (edge, number) in [("RTMIN", 34), ("RTMAX", 64)] {
        if let Some(offset) = short.strip_prefix(edge) {
            let offset = if offset.is_empty() { Some(0) } else { offset.parse::<i32>().ok() };
            return offset.map(|offset| number + offset).filter(|n| (34..=64).contains(n));
        }
    }
    let short = match short.as_str() {
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        "POLL" => "IO",
        other => other,
    };
    let by_name = NAMES.iter().position(|n| *n == short).map(|at| at as i32 + 1);
    by_name.or_else(|| short.parse().ok()).filter(|n| (1..=64).contains(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_images_name_them() {
        for (name, expected) in [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGRTMINPLUS15", Some(49)),
            ("SIGRTMAXMINUS1", Some(63)),
            ("SIGRTMAX", Some(64)),
            ("SIGRTMIN+40", None),
            ("SIGPOLL", Some(29)),
            ("", None),
            ("SIGNOPE", None),
            ("65", None),
        ] {
            assert_eq!(signal_number(name), expected, "{name}");
        }
    }
}
