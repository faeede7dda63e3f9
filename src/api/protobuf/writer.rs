//! Protobuf's wire format, written.

/// A message in the making, from its end to its beginning: the length of what is in it is known then when it is to be
/// written, and nothing is moved or measured before.
#[derive(Default)]
pub(super) struct Writer {
    reversed: Vec<u8>,
}

impl Writer {
    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.reversed.len()
    }

    /// What was written, in its order.
    pub fn finish(mut self) -> Vec<u8> {
        self.reversed.reverse();
        self.reversed
    }

    /// Bytes before those that are there.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.reversed.extend(bytes.iter().rev());
    }

    pub fn varint(&mut self, number: u64) {
        let (mut rest, mut encoded, mut length) = (number, [0u8; 10], 0);
        loop {
            let low = u8::try_from(rest & 0x7f).unwrap_or_default();
            rest >>= 7;
            encoded[length] = if rest == 0 { low } else { low | 0x80 };
            length += 1;
            if rest == 0 {
                return self.bytes(&encoded[..length]);
            }
        }
    }

    fn tag(&mut self, number: u8, wire_type: u8) {
        self.varint(u64::from(number) << 3 | u64::from(wire_type));
    }

    pub fn varint_field(&mut self, number: u8, value: u64) {
        self.varint(value);
        self.tag(number, 0);
    }

    pub fn fixed64_field(&mut self, number: u8, value: u64) {
        self.bytes(&value.to_le_bytes());
        self.tag(number, 1);
    }

    pub fn bytes_field(&mut self, number: u8, bytes: &[u8]) {
        let end = self.len();
        self.bytes(bytes);
        self.close(number, end);
    }

    /// Makes what was written since there were `end` bytes, and what will follow it (`more` bytes), a field.
    pub fn open(&mut self, number: u8, end: usize, more: usize) {
        self.varint((self.len() - end + more) as u64);
        self.tag(number, 2);
    }

    /// Makes what was written since there were `end` bytes a field.
    pub fn close(&mut self, number: u8, end: usize) {
        self.open(number, end, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protobuf::wire::varint;

    #[test]
    fn numbers_are_read_as_they_were_written() {
        for number in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), i64::MAX.cast_unsigned(), u64::MAX] {
            let mut writer = Writer::default();
            writer.varint(number);
            let bytes = writer.finish();
            assert_eq!(varint(&mut &bytes[..]), Ok(number));
        }
    }

    #[test]
    fn fields_are_in_the_order_opposite_to_that_of_the_calls() {
        let mut writer = Writer::default();
        writer.varint_field(3, 300);
        let end = writer.len();
        writer.bytes_field(2, b"b");
        writer.close(1, end);
        assert_eq!(writer.finish(), [0x0a, 3, 0x12, 1, b'b', 0x18, 0xac, 0x02]);
    }
}
