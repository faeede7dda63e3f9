//! Protobuf's wire format, read: numbered fields, each a number or bytes.

use super::Error;

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    /// The number of the wire type.
    pub fn number(self) -> u8 {
        match self {
            Wire::Varint(_) => 0,
            Wire::Fixed64(_) => 1,
            Wire::Bytes(_) => 2,
            Wire::Fixed32(_) => 5,
        }
    }

    /// The fields of a message with their numbers, in order. It ends with the first error.
    pub fn fields(mut rest: &'a [u8]) -> impl Iterator<Item = Result<(u32, Wire<'a>), Error>> {
        let mut failed = false;
        std::iter::from_fn(move || {
            if failed || rest.is_empty() {
                return None;
            }
            let field = next(&mut rest);
            failed = field.is_err();
            Some(field)
        })
    }
}

fn next<'a>(rest: &mut &'a [u8]) -> Result<(u32, Wire<'a>), Error> {
    let tag = varint(rest)?;
    let number = u32::try_from(tag >> 3).map_err(|_| Error::Malformed("illegal tag"))?;
    if number == 0 {
        return Err(Error::Malformed("illegal tag 0"));
    }
    let value = match tag & 7 {
        0 => Wire::Varint(varint(rest)?),
        1 => Wire::Fixed64(u64::from_le_bytes(fixed(rest)?)),
        2 => {
            let length = usize::try_from(varint(rest)?).map_err(|_| Error::Truncated)?;
            let (bytes, after) = rest.split_at_checked(length).ok_or(Error::Truncated)?;
            *rest = after;
            Wire::Bytes(bytes)
        }
        5 => Wire::Fixed32(u32::from_le_bytes(fixed(rest)?)),
        _ => return Err(Error::Malformed("illegal wire type")),
    };
    Ok((number, value))
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Error> {
    let (bytes, after) = rest.split_first_chunk::<N>().ok_or(Error::Truncated)?;
    *rest = after;
    Ok(*bytes)
}

/// A number of up to ten bytes, seven bits each.
pub(super) fn varint(rest: &mut &[u8]) -> Result<u64, Error> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(Error::Truncated)?;
        *rest = after;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::Malformed("integer overflow"))
}
