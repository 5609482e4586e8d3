//! Several files in one input: `=== name`, a line break, the content, a line break, and so on. Text, so that a changed byte is a small
//! change and a kept input can be read.

/// Most parts that are looked at.
const PARTS_MAX: usize = 64;

const MARK: &[u8] = b"=== ";

/// Names and contents, in order. What stands before the first mark is dropped.
pub(crate) fn split(input: &[u8]) -> Vec<(String, &[u8])> {
    let mut parts = Vec::new();
    let mut rest = input;
    while parts.len() < PARTS_MAX {
        let Some(start) = find(rest, MARK) else { break };
        rest = &rest[start + MARK.len()..];
        let Some(line) = rest.iter().position(|&byte| byte == b'\n') else { break };
        let name = String::from_utf8_lossy(&rest[..line]).into_owned();
        rest = &rest[line + 1..];
        let end = find(rest, b"\n=== ").unwrap_or(rest.len());
        parts.push((name, rest[..end].strip_suffix(b"\n").filter(|_| end == rest.len()).unwrap_or(&rest[..end])));
        rest = &rest[end..];
    }
    parts
}

/// The content of the first part of this name.
pub(crate) fn named<'a>(parts: &[(String, &'a [u8])], name: &str) -> Option<&'a [u8]> {
    parts.iter().find(|(other, _)| other == name).map(|(_, content)| *content)
}

/// The input that [`split`] takes apart.
pub(crate) fn join(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut input = Vec::new();
    for (name, content) in parts {
        input.extend_from_slice(MARK);
        input.extend_from_slice(name.as_bytes());
        input.push(b'\n');
        input.extend_from_slice(content);
        input.push(b'\n');
    }
    input
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive_a_round_trip() {
        let parts: [(&str, &[u8]); 3] = [("a b", b"1\n2"), ("c", b""), ("d", b"\x00=== ")];
        let joined = join(&parts);
        let split: Vec<(String, &[u8])> = split(&joined);
        assert_eq!(split.iter().map(|(name, content)| (name.as_str(), *content)).collect::<Vec<_>>(), parts);
    }
}
