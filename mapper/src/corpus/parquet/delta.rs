//! Delta-encoded lengths (`DELTA_BINARY_PACKED` of Parquet's specification): how many there are, and where they end.
//!
//! A block is a header (values of a block, miniblocks of a block, values in all, the first value) and, as long as values are
//! left, blocks: the least delta, a width in bits for each miniblock, and the miniblocks. The library takes the number of
//! values as it is written and makes room for it; a few bytes would fill the memory.

use anyhow::{Context, Result, ensure};

/// Checks that a run of lengths has `most` at most. Gives what is behind it.
///
/// # Errors
///
/// A run that is longer, or ends too early.
pub fn check(data: &[u8], most: u32) -> Result<&[u8]> {
    let mut data = data;
    let block = number(&mut data)?;
    let miniblocks = number(&mut data)?;
    let count = number(&mut data)?;
    let _first = number(&mut data)?;
    ensure!(
        count <= u64::from(most),
        "found {count} lengths in a page of {most} values: the file is damaged"
    );
    ensure!(
        block > 0 && block.is_multiple_of(128) && miniblocks > 0 && block.is_multiple_of(miniblocks),
        "found blocks of {block} lengths in {miniblocks} parts: the file is damaged"
    );
    let part = block / miniblocks;
    let mut left = count.saturating_sub(1);
    while left > 0 {
        let _least = number(&mut data)?;
        let (widths, rest) = usize::try_from(miniblocks)
            .ok()
            .and_then(|miniblocks| data.split_at_checked(miniblocks))
            .context(CUT_OFF)?;
        data = rest;
        for &width in widths {
            if left == 0 {
                break;
            }
            // The last part is written whole.
            let bytes = part.checked_mul(u64::from(width)).map(|bits| bits.div_ceil(8));
            let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
            data = bytes.and_then(|bytes| data.get(bytes..)).context(CUT_OFF)?;
            left = left.saturating_sub(part);
        }
    }
    Ok(data)
}

const CUT_OFF: &str = "found lengths that end too early: the file is damaged";

/// The next number of 7 bits a byte, the lowest first.
fn number(data: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = data.split_first().context(CUT_OFF)?;
        *data = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    anyhow::bail!("found a number of more than 64 bits: the file is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's first example: 1, 2, 3, 4, 5.
    const FIVE: [u8; 9] = [0x80, 0x01, 0x04, 0x05, 0x02, 0x02, 0, 0, 0];

    #[test]
    fn what_is_behind_the_lengths_is_found() {
        // The widths of the three miniblocks that have no values are there, the miniblocks are not.
        let page = [&FIVE[..], &[0], b"rest"].concat();
        assert_eq!(check(&page, 5).unwrap(), b"rest");
        // 3 bits each: 32 values in 12 bytes.
        let page = [&[0x80, 0x01, 0x04, 0x05, 0x02, 0x02, 3, 0, 0, 0], &[7; 12][..], b"rest"].concat();
        assert_eq!(check(&page, 9).unwrap(), b"rest");
        // One value is in the header.
        assert_eq!(check(&[0x80, 0x01, 0x04, 0x01, 0x02, b'x'], 1).unwrap(), b"x");
        assert_eq!(check(&[0x80, 0x01, 0x04, 0x00, 0x00, b'x'], 1).unwrap(), b"x");
    }

    #[test]
    fn a_run_that_is_not_there_is_refused() {
        let error = |page: &[u8], most| check(page, most).unwrap_err().to_string();
        assert!(error(&FIVE, 4).contains("5 lengths in a page of 4 values"));
        for cut in 0..FIVE.len() {
            assert!(error(&FIVE[..cut], 5).contains("too early"), "{cut}");
        }
        let huge = [
            0x80, 0x01, 0x04, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0,
        ];
        assert!(error(&huge, u32::MAX).contains("lengths in a page"));
        assert!(error(&[0xff; 20], 9).contains("more than 64 bits"));
        assert!(error(&[0x80, 0x01, 0x00, 0x05, 0x02], 5).contains("0 parts"));
        assert!(error(&[0x00, 0x01, 0x05, 0x02], 5).contains("blocks of 0"));
        let wide = [0x80, 0x01, 0x04, 0x05, 0x02, 0x02, 255, 0, 0, 0];
        assert!(error(&wide, 5).contains("too early"));
    }
}
