//! Unions of ranges of positions, with queries in logarithmic time.

/// A union of half-open ranges: ascending, none empty, none touching the next. So equal sets have equal
/// representations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<(i64, i64)>);

impl Ranges {
    /// The union of `ranges`.
    pub(super) fn new(ranges: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|(start, end)| start < end).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some((_, last)) if start <= *last => *last = end.max(*last),
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    /// Everything from 0 on.
    pub(super) fn all() -> Self {
        Self(vec![(0, i64::MAX)])
    }

    /// The union with one more range.
    pub(super) fn with(self, start: i64, end: i64) -> Self {
        self.with_all([(start, end)])
    }

    /// The union with more ranges.
    pub(super) fn with_all(&self, ranges: impl IntoIterator<Item = (i64, i64)>) -> Self {
        Self::new(self.0.iter().copied().chain(ranges))
    }

    pub(super) fn is_all(&self) -> bool {
        self.0 == [(0, i64::MAX)]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, position: i64) -> bool {
        let after = self.0.partition_point(|(start, _)| *start <= position);
        self.0[..after].last().is_some_and(|(_, end)| position < *end)
    }

    /// What is in this and not in `other`.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::with_capacity(self.0.len());
        for &(mut start, end) in &self.0 {
            let first = other.0.partition_point(|(_, out_end)| *out_end <= start);
            for &(out_start, out_end) in other.0[first..].iter().take_while(|(out, _)| *out < end) {
                left.push((start, out_start));
                start = out_end;
            }
            left.push((start, end));
        }
        Self::new(left)
    }

    pub(super) fn intersects(&self, other: &Self) -> bool {
        self.0.iter().any(|&(start, end)| {
            let first = other.0.partition_point(|(_, other_end)| *other_end <= start);
            other.0.get(first).is_some_and(|(other_start, _)| *other_start < end)
        })
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.0.as_slice())
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        write(&self.0, bytes);
    }
}

/// A union of windows whose bounds count from different ends of the prompt. Ascending in both bounds; a window within
/// another is dropped. So equal sets have equal representations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WindowUnion(Vec<(i64, i64)>);

impl WindowUnion {
    /// The union of `windows`.
    pub(super) fn new(mut windows: Vec<(i64, i64)>) -> Self {
        // Of windows with equal starts, the widest first.
        windows.sort_unstable_by_key(|&(start, end)| (start, std::cmp::Reverse(end)));
        let mut furthest = i64::MIN;
        windows.retain(|&(_, end)| {
            let kept = end > furthest;
            furthest = furthest.max(end);
            kept
        });
        Self(windows)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a window contains the position that is `as_start` when counted like starts and `as_end` when counted
    /// like ends.
    pub(super) fn contains(&self, as_start: i64, as_end: i64) -> bool {
        self.furthest_end(as_start).is_some_and(|end| as_end < end)
    }

    /// The windows of this set that lie in no window of `other`.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let outside = |&&(start, end): &&(i64, i64)| other.furthest_end(start).is_none_or(|furthest| furthest < end);
        Self(self.0.iter().filter(outside).copied().collect())
    }

    /// The furthest end of the windows that start at or before `start`, which is that of the last one.
    fn furthest_end(&self, start: i64) -> Option<i64> {
        let after = self.0.partition_point(|(other, _)| *other <= start);
        self.0[..after].last().map(|(_, end)| *end)
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.0.as_slice())
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        write(&self.0, bytes);
    }
}

fn write(pairs: &[(i64, i64)], bytes: &mut Vec<u8>) {
    bytes.extend((pairs.len() as u64).to_le_bytes());
    for (start, end) in pairs {
        bytes.extend(start.to_le_bytes());
        bytes.extend(end.to_le_bytes());
    }
}
