/// The ports that nodes open for Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl Default for PortRange {
    fn default() -> Self {
        Self { first: 30000, last: 32767 }
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl PortRange {
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    fn size(&self) -> u32 {
        u32::from(self.last.saturating_sub(self.first)) + 1
    }

    /// How many ports at the lower end are left to those who choose theirs (KEP-3668).
    fn static_size(&self) -> u32 {
        let size = self.size();
        if size < 32 { 0 } else { (size / 32).clamp(16, 128) }
    }

    /// A port that is not taken: a random one above the static part, else one within it.
    pub fn pick(&self, random: u64, is_taken: impl Fn(u16) -> bool) -> Option<u16> {
        let (size, fixed) = (self.size(), self.static_size());
        let dynamic = size - fixed;
        let start = u32::try_from(random % u64::from(dynamic)).unwrap_or(0);
        let upper = (0..dynamic).map(|i| fixed + (start + i) % dynamic);
        upper
            .chain(0..fixed)
            .filter_map(|offset| u16::try_from(u32::from(self.first) + offset).ok())
            .find(|port| !is_taken(*port))
    }
}
