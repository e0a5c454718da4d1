//! Links of pods that go at the same time go together: to remove one, the kernel waits for all its processors, which
//! takes some ten milliseconds, and nobody else may change a link meanwhile.

use std::sync::{Mutex, PoisonError};

use knarr_os::net::{Links, Result};

#[derive(Default)]
pub struct Removal {
    waiting: Mutex<Vec<String>>,
    /// Held by who removes.
    removing: Mutex<()>,
}

impl Removal {
    /// Removes a link, and with it those that came while another was removed. It is gone when this returns.
    pub fn remove(&self, links: &Links, name: String) -> Result<()> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        let _removing = self.removing.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if all.contains(&name) {
            return links.remove_all(all.iter().map(String::as_str));
        }
        // Who was before took it along, and if that went wrong, here it is said why.
        if links.find(&name)?.is_some() { links.remove(&name) } else { Ok(()) }
    }
}
