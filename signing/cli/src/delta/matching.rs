//! Which tensor of the base a tensor of the new release is like.

use std::collections::HashMap;

use switchback_signing::bundle::delta::{BasePlace, Element, Span, difference_bits};

use super::{
    release::Release,
    tensors::{Layout, Tensor},
};

/// Elements that are compared of each tensor, in blocks that are spread evenly over it.
const SAMPLE_BLOCKS: u64 = 16;
const SAMPLE_BLOCK: u64 = 256;

/// A tensor of the same name is the same tensor unless its differences take more than this share of its bits.
const SAME_PERCENT: u64 = 80;

/// Most tensors of one type and length that are looked at: equal shapes repeat in every layer.
const CANDIDATES_MAX: usize = 64;

/// Samples of one release's tensors, taken when they are first asked for.
struct Samples<'a> {
    release: &'a mut Release,
    tensors: &'a [Tensor],
    taken: HashMap<usize, Vec<u8>>,
}

impl<'a> Samples<'a> {
    fn new(release: &'a mut Release, layout: &'a Layout) -> Self {
        Self { release, tensors: &layout.tensors, taken: HashMap::new() }
    }

    fn of(&mut self, number: usize) -> anyhow::Result<&[u8]> {
        if !self.taken.contains_key(&number) {
            let tensor = &self.tensors[number];
            let width = tensor.element.width() as u64;
            let elements = tensor.length / width;
            let mut sample = Vec::new();
            let blocks = if elements <= SAMPLE_BLOCKS * SAMPLE_BLOCK { vec![(0, elements)] } else { spread(elements) };
            for (first, count) in blocks {
                let begin = sample.len();
                // At most SAMPLE_BLOCKS * SAMPLE_BLOCK elements in all.
                sample.resize(begin + (count * width) as usize, 0);
                self.release.read_file(tensor.file, tensor.offset + first * width, &mut sample[begin..])?;
            }
            self.taken.insert(number, sample);
        }
        Ok(self.taken.get(&number).map_or(&[], Vec::as_slice))
    }
}

/// First elements and lengths of the blocks.
fn spread(elements: u64) -> Vec<(u64, u64)> {
    (0..SAMPLE_BLOCKS).map(|block| (block * (elements - SAMPLE_BLOCK) / (SAMPLE_BLOCKS - 1), SAMPLE_BLOCK)).collect()
}

/// For each file of `new`, its spans: tensors with the places in the base that they are most like, and what lies between them.
pub(super) fn spans(new: &mut Release, new_layout: &Layout, base: &mut Release, base_layout: &Layout) -> anyhow::Result<Vec<Vec<Span>>> {
    let found = matches(new, new_layout, base, base_layout)?;
    let mut spans: Vec<Vec<Span>> = vec![Vec::new(); new.files().len()];
    for (tensor, found) in new_layout.tensors.iter().zip(found) {
        let place = found.map(|number| &base_layout.tensors[number]).map(|old| BasePlace { file: old.file, offset: old.offset });
        let span = Span { offset: tensor.offset, length: tensor.length, element: tensor.element, base: place };
        let of_file = &mut spans[tensor.file];
        let between = gap(of_file.last(), &span);
        of_file.extend(between);
        of_file.push(span);
    }
    for (file, of_file) in new.files().iter().zip(&mut spans).filter(|(_, spans)| spans.is_empty()) {
        let same = base.files().iter().position(|old| old.sha256 == file.sha256 && old.length == file.length);
        let place = same.map(|file| BasePlace { file, offset: 0 });
        of_file.extend(place.map(|_| Span { offset: 0, length: file.length, element: Element::Bytes, base: place }));
    }
    Ok(spans)
}

/// What lies between two tensors that lie as far apart in the base is likely to be what lies between them there.
fn gap(before: Option<&Span>, next: &Span) -> Option<Span> {
    let (before, to) = (before?, next.base?);
    let from = before.base.filter(|from| from.file == to.file)?;
    let (offset, old_offset) = (before.offset + before.length, from.offset + before.length);
    let length = next.offset.checked_sub(offset).filter(|length| *length > 0)?;
    let base = BasePlace { file: to.file, offset: old_offset };
    (old_offset.checked_add(length)? == to.offset).then_some(Span { offset, length, element: Element::Bytes, base: Some(base) })
}

/// For each new tensor the number of the base's, if any is like it.
fn matches(new: &mut Release, new_layout: &Layout, base: &mut Release, base_layout: &Layout) -> anyhow::Result<Vec<Option<usize>>> {
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let mut by_shape: HashMap<(Element, &str, u64), Vec<usize>> = HashMap::new();
    for (number, tensor) in base_layout.tensors.iter().enumerate() {
        by_name.entry(&tensor.name).or_insert(number);
        by_shape.entry(shape(tensor)).or_default().push(number);
    }
    let (mut new_samples, mut base_samples) = (Samples::new(new, new_layout), Samples::new(base, base_layout));
    let mut found = Vec::with_capacity(new_layout.tensors.len());
    for (number, tensor) in new_layout.tensors.iter().enumerate() {
        let alike = by_shape.get(&shape(tensor)).map_or(&[][..], Vec::as_slice);
        let same_name = by_name.get(tensor.name.as_str()).copied().filter(|old| shape(&base_layout.tensors[*old]) == shape(tensor));
        let sample = new_samples.of(number)?;
        let bits = 8 * sample.len() as u64;
        let mut cost = |old: usize| Ok::<u64, anyhow::Error>(difference_bits(tensor.element, base_samples.of(old)?, sample));
        let mut best = match same_name {
            Some(old) => Some((cost(old)?, old)),
            None => None,
        };
        if best.is_none_or(|(cost, _)| cost * 100 > bits * SAME_PERCENT) {
            for old in nearest(alike, number, new_layout.tensors.len(), base_layout.tensors.len()) {
                let cost = cost(old)?;
                if best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, old));
                }
                if cost == 0 {
                    break;
                }
            }
        }
        // One that is as far from it as chance stays out: the new bytes alone are smaller.
        found.push(best.filter(|(cost, _)| *cost < bits).map(|(_, old)| old));
    }
    Ok(found)
}

fn shape(tensor: &Tensor) -> (Element, &str, u64) {
    (tensor.element, &tensor.dtype, tensor.length)
}

/// Of the tensors that are alike in shape, those that lie about as far into the model, from its beginning or, for a graph that was written
/// in reverse, from its end.
fn nearest(alike: &[usize], number: usize, new_count: usize, base_count: usize) -> Vec<usize> {
    let expected = number * base_count / new_count.max(1);
    let mirrored = base_count.saturating_sub(1 + expected);
    let mut alike = alike.to_vec();
    alike.sort_by_key(|old| old.abs_diff(expected).min(old.abs_diff(mirrored)));
    alike.truncate(CANDIDATES_MAX);
    alike
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread_over_the_whole_tensor() {
        let blocks = spread(100_000);
        assert_eq!((blocks[0], blocks[15]), ((0, 256), (99_744, 256)));
        assert!(blocks.windows(2).all(|pair| pair[0].0 + 256 <= pair[1].0));
    }

    #[test]
    fn candidates_lie_about_where_they_should() {
        let alike: Vec<usize> = (0..1000).collect();
        let near = nearest(&alike, 100, 1000, 1000);
        assert_eq!((near[0], near.len()), (100, CANDIDATES_MAX));
        assert!(near.contains(&899), "the same place from the end");
    }
}
