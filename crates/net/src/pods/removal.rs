//! Links of pods that go at the same time go together: to remove one, the kernel waits for all its processors, which
//! takes some ten milliseconds, and nobody else may change a link meanwhile.

use std::sync::{Mutex, MutexGuard, PoisonError};

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
        self.waiting().push(name.clone());
        let _removing = self.removing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(all) = self.take(&name) {
            return links.remove_all(all.iter().map(String::as_str));
        }
        // Who was before took it along, and if that went wrong, here it is said why.
        if links.find(&name)?.is_some() { links.remove(&name) } else { Ok(()) }
    }

    /// All that wait, where this one does. Whoever was taken along leaves the others to one of themselves, or each of
    /// them would go alone.
    fn take(&self, name: &String) -> Option<Vec<String>> {
        let mut waiting = self.waiting();
        waiting.contains(name).then(|| std::mem::take(&mut *waiting))
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_wait_are_taken_by_one_of_them() {
        let removal = Removal::default();
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        removal.waiting().extend(names(&["a", "b", "c"]));
        assert_eq!(removal.take(&"b".to_owned()), Some(names(&["a", "b", "c"])));
        removal.waiting().extend(names(&["d", "e"]));
        assert_eq!(removal.take(&"a".to_owned()), None, "it has gone already");
        assert_eq!(removal.take(&"d".to_owned()), Some(names(&["d", "e"])), "and took nobody's place");
    }
}
