//! What a person sees while a cluster starts: a live list on a terminal, a line a step elsewhere.

use std::{
    io::{IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::say::say;

const GREEN: &str = "\x1b[32m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Ready(Duration),
}

struct Steps {
    list: Vec<(String, State)>,
    started: Instant,
    drawn: bool,
    live: bool,
    tick: usize,
}

/// A list of steps that become ready in any order.
#[derive(Clone)]
pub struct Progress(Arc<Mutex<Steps>>);

impl Progress {
    pub fn new(steps: &[impl AsRef<str>]) -> Self {
        let list = steps.iter().map(|name| (name.as_ref().to_owned(), State::Waiting)).collect();
        let live = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let progress = Self(Arc::new(Mutex::new(Steps { list, started: Instant::now(), drawn: false, live, tick: 0 })));
        progress.with(Steps::draw);
        progress
    }

    fn with<T>(&self, act: impl FnOnce(&mut Steps) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn ready(&self, step: &str) {
        self.with(|steps| {
            let (elapsed, width) = (steps.started.elapsed(), steps.width());
            for (name, state) in &mut steps.list {
                if *name == step && *state == State::Waiting {
                    *state = State::Ready(elapsed);
                    if !steps.live {
                        say!("ready  {name:<width$} {:>6} ms", elapsed.as_millis());
                    }
                }
            }
            steps.draw();
        });
    }

    pub fn elapsed(&self) -> Duration {
        self.with(|steps| steps.started.elapsed())
    }

    /// Keeps the list alive until it is dropped.
    pub async fn animate(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(80));
        loop {
            ticks.tick().await;
            let live = self.with(|steps| {
                steps.tick += 1;
                steps.draw();
                steps.live
            });
            if !live {
                return std::future::pending().await;
            }
        }
    }
}

impl Steps {
    fn width(&self) -> usize {
        self.list.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(14)
    }

    fn draw(&mut self) {
        if !self.live {
            return;
        }
        let mut text = String::new();
        if self.drawn {
            text.push_str(&format!("\x1b[{}A", self.list.len()));
        }
        let width = self.width();
        for (name, state) in &self.list {
            let line = match state {
                State::Waiting => format!("{DIM}{} {name}{RESET}", SPINNER[self.tick % SPINNER.len()]),
                State::Ready(after) => {
                    format!("{GREEN}✓{RESET} {name:<width$} {DIM}{:>6} ms{RESET}", after.as_millis())
                }
            };
            text.push_str(&format!("\x1b[2K{line}\n"));
        }
        self.drawn = true;
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
