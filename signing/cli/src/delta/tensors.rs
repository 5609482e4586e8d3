//! Where the tensors of a model lie in its files: a walk over an ONNX graph, or over the head of a safetensors file, that reads only what it
//! must and keeps no content.
//!
//! Of protobuf's wire format there are four kinds of field, and a reader passes over those that it does not know
//! (<https://protobuf.dev/programming-guides/encoding>). The numbers below are those of `onnx.proto`, which never change.

use std::collections::HashMap;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use switchback_signing::bundle::delta::Element;

use super::release::Release;

/// Most tensors of one model.
const TENSORS_MAX: usize = 1 << 20;

/// How deep graphs may lie in graphs: loops and conditions in each other.
const DEPTH_MAX: usize = 16;

/// Longest name of a tensor or of a file of external data, bytes.
const TEXT_MAX: u64 = 4096;

/// Longest head of a safetensors file, as its own reader has it.
const SAFETENSORS_HEAD_MAX: u64 = 100 << 20;

/// How much is read of the graph at a time.
const WINDOW: usize = 64 << 10;

/// A tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    /// What the format calls its type, so that only tensors of one type are matched.
    pub(crate) dtype: String,
    pub(crate) element: Element,
    pub(crate) file: usize,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// What was found in the files of a model.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// In the order of the files and of the places in them, without overlap.
    pub(crate) tensors: Vec<Tensor>,
    /// What could not be matched, and what to do about it.
    pub(crate) warnings: Vec<String>,
}

impl Layout {
    /// Looks through all files of a release.
    pub(crate) fn of(release: &mut Release) -> Self {
        let mut layout = Self::default();
        for file in 0..release.files().len() {
            let path = release.files()[file].path.clone();
            let before = layout.tensors.len();
            let found = match path.rsplit('.').next() {
                Some("onnx") => onnx(release, file, &mut layout),
                Some("safetensors") => safetensors(release, file, &mut layout),
                _ => Ok(()),
            };
            if let Err(error) = found {
                layout.tensors.truncate(before);
                layout.warnings.push(format!("{path} is taken as bytes: {error:#}"));
            }
        }
        layout.tensors.sort_by_key(|tensor| (tensor.file, tensor.offset));
        // Initializers may share external data; one of them stands for all.
        let mut end = (0, 0);
        layout.tensors.retain(|tensor| {
            let keep = tensor.length > 0 && (tensor.file, tensor.offset) >= end;
            if keep {
                end = (tensor.file, tensor.offset + tensor.length);
            }
            keep
        });
        layout
    }
}

fn onnx(release: &mut Release, file: usize, layout: &mut Layout) -> anyhow::Result<()> {
    let length = release.files()[file].length;
    let mut walk = Walk { wire: Wire::new(release, file), tensors: &mut layout.tensors, packed: Packed::default() };
    let model = Range { at: 0, end: length };
    // ModelProto: graph = 7.
    walk.fields(model, |walk, number, part| match number {
        7 => walk.graph(part, 0),
        _ => Ok(()),
    })?;
    let Packed { tensors, bytes, example } = walk.packed;
    if tensors > 0 {
        let path = &release.files()[file].path;
        layout.warnings.push(format!(
            "{path}: {tensors} tensors ({bytes} bytes) such as {example:?} are stored as packed numbers (int32_data, int64_data, ...), which no \
             difference fits; store them as raw_data or external data (onnx.save(..., save_as_external_data=True))"
        ));
    }
    Ok(())
}

/// Tensors whose numbers are protobuf varints.
#[derive(Default)]
struct Packed {
    tensors: usize,
    bytes: u64,
    example: String,
}

/// A stretch of a file.
#[derive(Clone, Copy)]
struct Range {
    at: u64,
    end: u64,
}

impl Range {
    fn length(self) -> u64 {
        self.end - self.at
    }
}

struct Walk<'a> {
    wire: Wire<'a>,
    tensors: &'a mut Vec<Tensor>,
    packed: Packed,
}

/// A TensorProto, as far as it matters.
#[derive(Default)]
struct Proto {
    name: String,
    data_type: u64,
    raw: Option<Range>,
    floats: Option<Range>,
    packed_bytes: u64,
    external: HashMap<String, String>,
    is_external: bool,
}

impl Walk<'_> {
    /// Calls `visit` with each length-delimited field of a message.
    fn fields(&mut self, message: Range, mut visit: impl FnMut(&mut Self, u64, Range) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut at = message.at;
        while at < message.end {
            let field = self.wire.field(Range { at, end: message.end })?;
            if let Value::Bytes(part) = field.value {
                visit(self, field.number, part)?;
            }
            at = field.end;
        }
        Ok(())
    }

    /// GraphProto: node = 1, initializer = 5.
    fn graph(&mut self, graph: Range, depth: usize) -> anyhow::Result<()> {
        ensure!(depth < DEPTH_MAX, "graphs lie more than {DEPTH_MAX} deep in each other");
        self.fields(graph, |walk, number, part| match number {
            1 => walk.node(part, depth),
            5 => walk.tensor(part, ""),
            _ => Ok(()),
        })
    }

    /// NodeProto: output = 2, attribute = 5. AttributeProto: t = 5, g = 6, tensors = 10, graphs = 11.
    fn node(&mut self, node: Range, depth: usize) -> anyhow::Result<()> {
        let mut output = String::new();
        self.fields(node, |walk, number, part| match number {
            2 if output.is_empty() => {
                output = walk.wire.text(part)?;
                Ok(())
            }
            5 => walk.fields(part, |walk, number, part| match number {
                5 | 10 => walk.tensor(part, &output),
                6 | 11 => walk.graph(part, depth + 1),
                _ => Ok(()),
            }),
            _ => Ok(()),
        })
    }

    /// TensorProto: data_type = 2, float_data = 4, int32_data = 5, int64_data = 7, name = 8, raw_data = 9, double_data = 10,
    /// uint64_data = 11, external_data = 13, data_location = 14.
    fn tensor(&mut self, tensor: Range, of_node: &str) -> anyhow::Result<()> {
        let mut proto = Proto::default();
        let mut at = tensor.at;
        while at < tensor.end {
            let field = self.wire.field(Range { at, end: tensor.end })?;
            match (field.number, field.value) {
                (2, Value::Number(number)) => proto.data_type = number,
                // Packed floats are their bytes.
                (4, Value::Bytes(part)) => proto.floats = Some(part),
                (5 | 7 | 10 | 11, Value::Bytes(part)) => proto.packed_bytes += part.length(),
                (8, Value::Bytes(part)) => proto.name = self.wire.text(part)?,
                (9, Value::Bytes(part)) => proto.raw = Some(part),
                (13, Value::Bytes(part)) => self.external(part, &mut proto.external)?,
                (14, Value::Number(number)) => proto.is_external = number == 1,
                _ => {}
            }
            at = field.end;
        }
        if proto.name.is_empty() {
            proto.name = of_node.to_owned();
        }
        self.add(proto)
    }

    /// StringStringEntryProto: key = 1, value = 2.
    fn external(&mut self, entry: Range, external: &mut HashMap<String, String>) -> anyhow::Result<()> {
        let (mut key, mut value) = (String::new(), String::new());
        self.fields(entry, |walk, number, part| {
            match number {
                1 => key = walk.wire.text(part)?,
                2 => value = walk.wire.text(part)?,
                _ => {}
            }
            Ok(())
        })?;
        ensure!(external.len() < 16, "a tensor has too many external_data entries");
        external.insert(key, value);
        Ok(())
    }

    fn add(&mut self, proto: Proto) -> anyhow::Result<()> {
        ensure!(self.tensors.len() < TENSORS_MAX, "it has more than {TENSORS_MAX} tensors");
        // TensorProto.DataType: FLOAT = 1, UINT8 = 2, INT8 = 3, FLOAT16 = 10, BFLOAT16 = 16.
        let (element, dtype) = match proto.data_type {
            1 => (Element::F32, "float".to_owned()),
            2 => (Element::I8, "uint8".to_owned()),
            3 => (Element::I8, "int8".to_owned()),
            10 => (Element::F16, "float16".to_owned()),
            16 => (Element::Bf16, "bfloat16".to_owned()),
            other => (Element::Bytes, other.to_string()),
        };
        let (file, range) = if proto.is_external {
            self.place(&proto.external).with_context(|| format!("the external data of {:?}", proto.name))?
        } else if let Some(raw) = proto.raw.or(proto.floats.filter(|_| element == Element::F32)) {
            (self.wire.file, raw)
        } else {
            if proto.packed_bytes > 0 && element != Element::Bytes {
                self.packed.tensors += 1;
                self.packed.bytes += proto.packed_bytes;
                self.packed.example = proto.name;
            }
            return Ok(());
        };
        if !range.length().is_multiple_of(element.width() as u64) {
            bail!("the tensor {:?} of type {dtype} has {} bytes", proto.name, range.length());
        }
        self.tensors.push(Tensor { name: proto.name, dtype, element, file, offset: range.at, length: range.length() });
        Ok(())
    }

    /// The file and the place of external data, whose location is relative to the graph's folder.
    fn place(&self, external: &HashMap<String, String>) -> anyhow::Result<(usize, Range)> {
        let location = external.get("location").context("has no location")?;
        let folder =
            self.wire.release.files()[self.wire.file].path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let path = format!("{folder}{}", location.strip_prefix("./").unwrap_or(location));
        let files = self.wire.release.files();
        let file = files.iter().position(|file| file.path == path).with_context(|| format!("is in {path:?}, which is not there"))?;
        let number =
            |key: &str| external.get(key).map(|text| text.parse::<u64>().with_context(|| format!("has {key} {text:?}"))).transpose();
        let (length, at) = (files[file].length, number("offset")?.unwrap_or(0));
        let end = match number("length")? {
            Some(length) => at.checked_add(length).context("is too long")?,
            None => length,
        };
        ensure!(at <= end && end <= length, "goes on after the end of {path:?}");
        Ok((file, Range { at, end }))
    }
}

/// A field of a message.
struct Field {
    number: u64,
    value: Value,
    /// Where the next field begins.
    end: u64,
}

enum Value {
    Number(u64),
    Bytes(Range),
    Other,
}

/// Reads protobuf's wire format from a file.
struct Wire<'a> {
    release: &'a mut Release,
    file: usize,
    length: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Wire<'a> {
    fn new(release: &'a mut Release, file: usize) -> Self {
        let length = release.files()[file].length;
        Self { release, file, length, window: Vec::new(), window_at: 0 }
    }

    fn byte(&mut self, at: u64) -> anyhow::Result<u8> {
        ensure!(at < self.length, "it is cut off");
        if at < self.window_at || at >= self.window_at + self.window.len() as u64 {
            // At most WINDOW.
            self.window.resize((self.length - at).min(WINDOW as u64) as usize, 0);
            self.window_at = at;
            self.release.read_file(self.file, at, &mut self.window)?;
        }
        Ok(self.window[(at - self.window_at) as usize])
    }

    fn varint(&mut self, range: &mut Range) -> anyhow::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            ensure!(range.at < range.end, "it is no ONNX model, or cut off: a number ends outside of its message");
            let byte = self.byte(range.at)?;
            range.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("it is no ONNX model: a number has more than 64 bits")
    }

    fn field(&mut self, mut rest: Range) -> anyhow::Result<Field> {
        let tag = self.varint(&mut rest)?;
        let (value, length) = match tag & 7 {
            0 => (Value::Number(self.varint(&mut rest)?), 0),
            1 => (Value::Other, 8),
            5 => (Value::Other, 4),
            2 => {
                let length = self.varint(&mut rest)?;
                let end = rest.at.checked_add(length).filter(|end| *end <= rest.end);
                let end = end.context("it is no ONNX model, or cut off: a field ends outside of its message")?;
                (Value::Bytes(Range { at: rest.at, end }), length)
            }
            other => bail!("it is no ONNX model: wire type {other}"),
        };
        let end = rest.at + length;
        ensure!(end <= rest.end, "it is no ONNX model, or cut off: a field ends outside of its message");
        Ok(Field { number: tag >> 3, value, end })
    }

    fn text(&mut self, range: Range) -> anyhow::Result<String> {
        ensure!(range.length() <= TEXT_MAX, "a name has more than {TEXT_MAX} bytes");
        let bytes = (range.at..range.end).map(|at| self.byte(at)).collect::<anyhow::Result<Vec<u8>>>()?;
        String::from_utf8(bytes).context("a name is not UTF-8")
    }
}

/// The entry of one tensor in the head of a safetensors file.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    data_offsets: (u64, u64),
}

/// <https://huggingface.co/docs/safetensors>: the length of the head in 8 bytes, the head in JSON, the tensors.
fn safetensors(release: &mut Release, file: usize, layout: &mut Layout) -> anyhow::Result<()> {
    let file_length = release.files()[file].length;
    let mut length = [0; 8];
    ensure!(file_length >= 8, "it is cut off");
    release.read_file(file, 0, &mut length)?;
    let length = u64::from_le_bytes(length);
    ensure!(length <= SAFETENSORS_HEAD_MAX && length <= file_length - 8, "its head has {length} bytes");
    let mut head = vec![0; length as usize];
    release.read_file(file, 8, &mut head)?;
    let entries: HashMap<String, serde_json::Value> = serde_json::from_slice(&head).context("its head is no JSON object")?;
    for (name, entry) in entries.into_iter().filter(|(name, _)| name != "__metadata__") {
        ensure!(layout.tensors.len() < TENSORS_MAX, "it has more than {TENSORS_MAX} tensors");
        let Entry { dtype, data_offsets: (start, end) } =
            serde_json::from_value(entry).with_context(|| format!("the entry of {name:?}"))?;
        let element = match dtype.as_str() {
            "F32" => Element::F32,
            "F16" => Element::F16,
            "BF16" => Element::Bf16,
            "I8" | "U8" => Element::I8,
            _ => Element::Bytes,
        };
        let tensor_length = end.checked_sub(start).filter(|_| end <= file_length - 8 - length);
        let tensor_length = tensor_length.filter(|length| length.is_multiple_of(element.width() as u64));
        let length = tensor_length.with_context(|| format!("the tensor {name:?} is said to lie from {start} to {end}"))?;
        layout.tensors.push(Tensor { name, dtype, element, file, offset: 8 + head.len() as u64 + start, length });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// A field of protobuf's wire format.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(content);
        bytes
    }

    fn number(field: u8, value: u8) -> Vec<u8> {
        vec![field << 3, value]
    }

    fn entry(key: &str, value: &str) -> Vec<u8> {
        field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
    }

    fn external(name: &str, data_type: u8, entries: &[(&str, &str)]) -> Vec<u8> {
        let entries: Vec<u8> = entries.iter().flat_map(|(key, value)| entry(key, value)).collect();
        [field(8, name.as_bytes()), number(2, data_type), number(14, 1), entries].concat()
    }

    fn layout(graph: &[u8], others: &[(&str, &[u8])]) -> Layout {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("m")).unwrap();
        std::fs::write(folder.path().join("m/model.onnx"), field(7, graph)).unwrap();
        for (name, bytes) in others {
            std::fs::write(folder.path().join("m").join(name), bytes).unwrap();
        }
        Layout::of(&mut Release::open(folder.path(), None).unwrap())
    }

    #[test]
    fn tensors_are_found_inline_in_other_files_and_in_graphs_within_graphs() {
        let raw = [field(8, b"raw"), number(2, 16), field(9, &[7; 200])].concat();
        let floats = [field(8, b"floats"), number(2, 1), field(4, &[7; 40])].concat();
        let inner = field(5, &[field(8, b"inner"), number(2, 2), field(9, &[1; 30])].concat());
        let body = field(5, &field(6, &inner));
        let constant = [field(2, b"constant_out"), field(5, &field(5, &[number(2, 10), field(9, &[2; 6])].concat()))].concat();
        let far = external("far", 10, &[("location", "weights.bin"), ("offset", "64"), ("length", "32")]);
        let rest = external("rest", 3, &[("location", "./other.bin")]);
        let again = external("again", 10, &[("location", "weights.bin"), ("offset", "64"), ("length", "32")]);
        let graph =
            [field(5, &raw), field(5, &floats), field(1, &body), field(1, &constant), field(5, &far), field(5, &rest), field(5, &again)];
        let found = layout(&graph.concat(), &[("weights.bin", &[0; 100]), ("other.bin", &[0; 5])]);
        assert_eq!(found.warnings, [""; 0]);
        let facts: Vec<_> = found.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.element, tensor.file, tensor.length)).collect();
        let expected = [
            ("raw", Element::Bf16, 0, 200),
            ("floats", Element::F32, 0, 40),
            ("inner", Element::I8, 0, 30),
            ("constant_out", Element::F16, 0, 6),
            ("rest", Element::I8, 1, 5),
            ("far", Element::F16, 2, 32),
        ];
        assert_eq!(facts, expected);
        assert_eq!(found.tensors[5].offset, 64);
    }

    #[test]
    fn packed_numbers_are_named_with_what_to_do() {
        let packed = [field(8, b"half"), number(2, 10), field(5, &[1, 2, 3])].concat();
        let found = layout(&field(5, &packed), &[]);
        assert!(found.tensors.is_empty());
        assert!(
            found.warnings[0].contains("1 tensors (3 bytes) such as \"half\"") && found.warnings[0].contains("raw_data"),
            "{:?}",
            found.warnings
        );
    }

    #[test]
    fn a_graph_that_is_none_is_taken_as_bytes() {
        let mut deep = Vec::new();
        for _ in 0..20 {
            deep = field(1, &field(5, &field(6, &deep)));
        }
        for (graph, others, why) in [
            (field(5, &external("x", 10, &[("location", "../weights.bin")])), &[][..], "which is not there"),
            (
                field(5, &external("x", 10, &[("location", "w"), ("offset", "4"), ("length", "2")])),
                &[("w", &[0; 5][..])][..],
                "goes on after the end",
            ),
            (
                field(5, &external("x", 10, &[("location", "w"), ("offset", "18446744073709551615"), ("length", "2")])),
                &[("w", &[0; 5][..])],
                "too long",
            ),
            (field(5, &external("x", 10, &[("location", "w"), ("offset", "-1")])), &[("w", &[0; 5][..])], "has offset"),
            (field(5, &external("x", 10, &[("location", "w")])), &[("w", &[0; 5][..])], "has 5 bytes"),
            (vec![0x2a, 0x7f, 1], &[], "ends outside of its message"),
            (vec![0x2b], &[], "wire type 3"),
            (vec![0xff; 12], &[], "more than 64 bits"),
            (deep, &[], "deep in each other"),
        ] {
            let found = layout(&graph, others);
            assert!(found.tensors.is_empty());
            assert!(
                found.warnings[0].starts_with("m/model.onnx is taken as bytes: ") && found.warnings[0].contains(why),
                "{:?}",
                found.warnings
            );
        }
    }

    #[test]
    fn any_bytes_end() {
        let mut state = 1_u64;
        for length in 0..400 {
            let mut noise = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Mostly field numbers and lengths that mean something.
                if state.is_multiple_of(3) {
                    (state >> 32) as u8
                } else {
                    [0x0a, 0x2a, 0x3a, 0x32, 0x6a, 2, 3, 5][(state >> 40) as usize % 8]
                }
            };
            let graph: Vec<u8> = (0..length).map(|_| noise()).collect();
            layout(&graph, &[("w", &[0; 50])]);
        }
    }

    #[test]
    fn a_head_of_safetensors_that_lies_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let with_head = |head: &str| [&(head.len() as u64).to_le_bytes(), head.as_bytes(), &[0; 8]].concat();
        let tensor = |offsets: &str| with_head(&format!(r#"{{"a":{{"dtype":"F16","shape":[2],"data_offsets":{offsets}}}}}"#));
        for (bytes, tensors, warnings) in [
            (tensor("[2,6]"), 1, 0),
            (tensor("[6,2]"), 0, 1),
            (tensor("[0,9]"), 0, 1),
            (tensor("[0,3]"), 0, 1),
            (with_head("[]"), 0, 1),
            (vec![0xff; 8], 0, 1),
            (vec![1], 0, 1),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let found = Layout::of(&mut Release::open(folder.path(), None).unwrap());
            assert_eq!((found.tensors.len(), found.warnings.len()), (tensors, warnings), "{:?}", found.warnings);
        }
    }
}
