//! Undoing compression, found by the first bytes and not by a name or a media type.

use std::io::{self, BufReader, Cursor, Read};

use flate2::read::MultiGzDecoder;
use oci_spec::image::MediaType;

use super::ImageError;

/// Ways of compression that images use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// What a window may need at most; larger ones are made to exhaust memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

impl Compression {
    fn of(magic: &[u8]) -> Result<Self, ImageError> {
        match magic {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd] => Ok(Self::Zstd),
            // A skippable frame, with which some tools begin.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Ok(Self::Zstd),
            [b'B', b'Z', b'h', _] => Err(ImageError::Compression("bzip2")),
            [0xfd, b'7', b'z', b'X'] => Err(ImageError::Compression("xz")),
            [0x04, 0x22, 0x4d, 0x18] => Err(ImageError::Compression("lz4")),
            _ => Ok(Self::None),
        }
    }

    /// How a file is compressed.
    pub(super) fn of_file(mut file: impl Read) -> Result<Self, ImageError> {
        Self::of(&magic(&mut file)?)
    }

    /// Media type of a layer compressed in this way.
    pub(super) fn media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::ImageLayer,
            Self::Gzip => MediaType::ImageLayerGzip,
            Self::Zstd => MediaType::ImageLayerZstd,
        }
    }
}

fn magic(source: &mut impl Read) -> Result<Vec<u8>, ImageError> {
    let mut magic = Vec::new();
    source.take(4).read_to_end(&mut magic).map_err(ImageError::io("read"))?;
    Ok(magic)
}

/// The uncompressed content of `source`.
pub(super) fn decompress<'a>(mut source: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>, ImageError> {
    let magic = magic(&mut source)?;
    let compression = Compression::of(&magic)?;
    let whole = BufReader::with_capacity(128 * 1024, Cursor::new(magic).chain(source));
    Ok(match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Compression::Zstd => Box::new(zstd_decoder(whole).map_err(ImageError::io("start zstd"))?),
    })
}

fn zstd_decoder<'a, R: io::BufRead>(source: R) -> io::Result<zstd::stream::read::Decoder<'a, R>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn content_comes_out_as_it_went_in() {
        let content = b"some layer ".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&content).unwrap();
        let zstd = zstd::stream::encode_all(&content[..], 1).unwrap();
        for packed in [content.clone(), gzip.finish().unwrap(), zstd, b"ab".to_vec(), Vec::new()] {
            let mut out = Vec::new();
            decompress(&packed[..]).unwrap().read_to_end(&mut out).unwrap();
            assert!(out == content || out == packed);
        }
    }

    #[test]
    fn what_is_not_known_is_named() {
        let error = decompress(&b"BZh9...."[..]).err().unwrap().to_string();
        assert!(error.contains("bzip2"), "{error}");
    }
}
