//! Writing the protobuf wire format (<https://protobuf.dev/programming-guides/encoding/>).

/// The bytes of a message that is being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    out: Vec<u8>,
    /// The fields of all structs that are being written, the innermost one's last.
    parts: Vec<Part>,
    /// Where fields wait while they are brought into order.
    spare: Vec<u8>,
}

/// A field as it came, and its place among those of its struct.
#[derive(Clone, Copy, Debug)]
struct Part {
    rank: usize,
    start: usize,
    end: usize,
}

/// A struct whose fields are being written: where its parts begin, and its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    first: usize,
    start: usize,
}

/// Where a message began whose length is not known yet.
#[derive(Debug)]
#[must_use]
pub(super) struct Open(usize);

impl Writer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), ..Self::default() }
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }

    fn varint(&mut self, value: u64) {
        push_varint(&mut self.out, value);
    }

    fn key(&mut self, tag: u32, wire: u64) {
        self.varint(u64::from(tag) << 3 | wire);
    }

    pub(super) fn number(&mut self, tag: u32, value: u64) {
        self.key(tag, 0);
        self.varint(value);
    }

    pub(super) fn double(&mut self, tag: u32, value: f64) {
        self.key(tag, 1);
        self.out.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    /// The beginning of a field of so many bytes, which follow.
    pub(super) fn length(&mut self, tag: u32, bytes: usize) {
        self.key(tag, 2);
        self.varint(bytes as u64);
    }

    pub(super) fn bytes(&mut self, tag: u32, value: &[u8]) {
        self.length(tag, value.len());
        self.out.extend_from_slice(value);
    }

    pub(super) fn message(&mut self, tag: u32, write: impl FnOnce(&mut Self)) {
        let open = self.begin(tag);
        write(self);
        self.end(open);
    }

    pub(super) fn begin(&mut self, tag: u32) -> Open {
        self.key(tag, 2);
        self.out.push(0);
        Open(self.out.len())
    }

    pub(super) fn end(&mut self, Open(start): Open) {
        let length = self.out.len() - start;
        if let Ok(short) = u8::try_from(length)
            && short < 0x80
        {
            self.out[start - 1] = short;
            return;
        }
        let mut wide = Vec::with_capacity(10);
        push_varint(&mut wide, length as u64);
        self.out.splice(start - 1..start, wide);
    }

    pub(super) fn begin_parts(&mut self) -> Parts {
        Parts { first: self.parts.len(), start: self.out.len() }
    }

    /// What was written from `start` on is the field of a rank.
    pub(super) fn part(&mut self, rank: usize, start: usize) {
        let end = self.out.len();
        if end > start {
            self.parts.push(Part { rank, start, end });
        }
    }

    /// Brings the fields into order. `path` are the numbers of the messages around a field that are not written yet,
    /// and its own.
    pub(super) fn end_parts<'p>(&mut self, Parts { first, start }: Parts, path: impl Fn(usize) -> &'p [u32] + Copy) {
        let mut all = std::mem::take(&mut self.parts);
        let parts = &mut all[first..];
        let in_order = parts.is_sorted_by_key(|part| part.rank) && parts.iter().all(|part| path(part.rank).len() == 1);
        if !in_order {
            parts.sort_by_key(|part| part.rank);
            let mut spare = std::mem::take(&mut self.spare);
            spare.clear();
            spare.extend_from_slice(&self.out[start..]);
            self.out.truncate(start);
            self.assemble(parts, 0, path, &|part| &spare[part.start - start..part.end - start]);
            self.spare = spare;
        }
        all.truncate(first);
        self.parts = all;
    }

    fn assemble<'p, 's>(
        &mut self,
        mut parts: &[Part],
        depth: usize,
        path: impl Fn(usize) -> &'p [u32] + Copy,
        bytes: &impl Fn(&Part) -> &'s [u8],
    ) {
        while let Some(part) = parts.first() {
            let numbers = path(part.rank);
            if numbers.len() <= depth + 1 {
                self.out.extend_from_slice(bytes(part));
                parts = &parts[1..];
                continue;
            }
            let same = parts.iter().take_while(|part| path(part.rank)[..=depth] == numbers[..=depth]).count();
            let (inside, rest) = parts.split_at(same);
            let open = self.begin(numbers[depth]);
            self.assemble(inside, depth + 1, path, bytes);
            self.end(open);
            parts = rest;
        }
    }

    /// Sorts entries by key that were written one after another from `first` on, each from where it says.
    pub(super) fn sort_from(&mut self, first: usize, mut entries: Vec<(String, usize)>) {
        let unsorted = self.out.split_off(first);
        let mut end = unsorted.len();
        let mut ranges = Vec::with_capacity(entries.len());
        while let Some((key, start)) = entries.pop() {
            ranges.push((key, start - first, end));
            end = start - first;
        }
        ranges.sort();
        for (_, start, end) in ranges {
            self.out.extend_from_slice(&unsorted[start..end]);
        }
    }
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
