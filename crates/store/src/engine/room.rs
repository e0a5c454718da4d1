//! How much of the disk stays free, so that the engine itself never meets a full one in the middle of its work.

/// Deletions go on until less than this would be left: the journal's next batches and a table of what is in memory.
pub const LEAST_BYTES: u64 = 4 << 20;
/// What else must be left for anything that grows, so that deletions still have room afterwards.
const FOR_DELETIONS_BYTES: u64 = 12 << 20;
/// No compaction of tables writes more at once.
const REWRITE_BYTES: u64 = 256 << 20;
/// With more than this nobody needs to know how large the tables are.
pub const PLENTY_BYTES: u64 = LEAST_BYTES + FOR_DELETIONS_BYTES + REWRITE_BYTES;

/// What must be left after a write that grows the log. The engine rewrites its tables in the background, into new files
/// before the old ones go; a rewrite that finds no room stops the engine.
pub fn reserve_bytes(table_bytes: u64) -> u64 {
    LEAST_BYTES + FOR_DELETIONS_BYTES + table_bytes.min(REWRITE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_can_be_rewritten_once_within_bounds() {
        const MIB: u64 = 1 << 20;
        for (tables, reserve) in
            [(0, 16 * MIB), (10 * MIB, 26 * MIB), (256 * MIB, PLENTY_BYTES), (1 << 40, PLENTY_BYTES)]
        {
            assert_eq!(reserve_bytes(tables), reserve, "{tables}");
        }
    }
}
