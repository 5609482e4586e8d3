//! Changes to inputs, the same for the same seed.

/// Words that parsers branch on.
const WORDS: [&[u8]; 34] = [
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1",
    b"256",
    b"4294967296",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551615",
    b"1.0",
    b"1e3",
    b"\"\"",
    b"{}",
    b"[]",
    b"{",
    b"[",
    b"\"",
    b",",
    b":",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\xef\xbb\xbf",
    b"../",
    b"*",
    b"?",
    b"\n=== ",
    b"0001-01-01T00:00:00Z",
    b"9999-12-31T23:59:59Z",
    b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\x28\xb5\x2f\xfd",
    b"\x50\x2a\x4d\x18",
];

/// Longest mutant, bytes: enough for every limit that is counted in items, little enough that a thousand of them take seconds.
const LENGTH_MAX: usize = 64 << 10;

/// Numbers that follow from a seed (`SplitMix64`).
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// One of the inputs with one to four changes.
pub(crate) fn mutant(random: &mut Random, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = random.pick(inputs).clone();
    for _ in 0..=random.below(4) {
        change(random, inputs, &mut bytes);
        bytes.truncate(LENGTH_MAX);
    }
    bytes
}

fn change(random: &mut Random, inputs: &[Vec<u8>], bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len() + 1);
    let end = (at + 1 + random.below(32)).min(bytes.len());
    match random.below(9) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        2 if at < bytes.len() => bytes[at] = random.next() as u8,
        3 => drop(bytes.drain(at.min(end)..end)),
        4 => {
            let piece = bytes[at.min(end)..end].to_vec();
            insert(bytes, at, &piece);
        }
        5 => {
            // A piece of another input, in the place of as many bytes or between them.
            let other = random.pick(inputs);
            let from = random.below(other.len() + 1);
            let piece = &other[from..(from + random.below(256)).min(other.len())];
            let replaced = if random.below(2) == 0 { 0 } else { piece.len().min(bytes.len() - at) };
            bytes.splice(at..at + replaced, piece.iter().copied());
        }
        6 => bytes.truncate(at),
        7 => {
            // In the place of a number, where there is one.
            let start = bytes[at..].iter().position(u8::is_ascii_digit).map_or(at, |found| at + found);
            let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            bytes.splice(start..start + digits, random.pick::<&[u8]>(&WORDS).iter().copied());
        }
        _ => {
            let word: &[u8] = random.pick::<&[u8]>(&WORDS);
            insert(bytes, at, word);
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}
