//! Reads recorded frames: for each its length as u32 in little-endian order, then its bytes; the whole may be zstd.
//!
//! A recording is read as a stream, so it may be of any size: what is held is one frame. A length above the protocol's
//! limit, or a file that ends within a frame, is an error that tells where; the frames before it were given out.
//! What is in a frame is not looked at.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use atproto::frame::FRAME_BYTES_MAX;
use bytes::Bytes;
use thiserror::Error;

/// The first bytes of a zstd frame. As a length they would be above the limit, so a recording never begins with them.
const ZSTD_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

// zstd's own limit for decoders that don't ask for more: 128 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Why a recording can't be read on.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// The file can't be read, or its zstd is damaged.
    #[error("recording can't be read after {frames} frames")]
    Io {
        /// How many frames were read before.
        frames: u64,
        /// What the system says.
        source: io::Error,
    },
    /// The file ends within a frame or its length.
    #[error("recording ends within frame {frames} (counted from 0)")]
    Truncated {
        /// How many frames were read before.
        frames: u64,
    },
    /// A length that no frame has: what follows is not a recording.
    #[error(
        "frame {frames} (counted from 0) claims {bytes} bytes, at most {bytes_max} are possible: not a recording"
    )]
    Oversized {
        /// How many frames were read before.
        frames: u64,
        /// The length.
        bytes: u64,
        /// The longest possible.
        bytes_max: usize,
    },
}

/// Recorded frames, in their order.
pub struct Recording {
    bytes: Box<dyn Read + Send>,
    frames: u64,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Recording")
            .field("frames", &self.frames)
            .finish_non_exhaustive()
    }
}

impl Recording {
    /// Opens a file. Whether it is zstd is told by its first bytes, not by its name.
    ///
    /// # Errors
    /// [`RecordingError::Io`].
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let open = || Self::of(File::open(path)?);
        open().map_err(|source| RecordingError::Io { frames: 0, source })
    }

    /// Reads from `bytes`, plain or zstd.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn of(bytes: impl Read + Send + 'static) -> io::Result<Self> {
        Ok(Self {
            bytes: unpacked(bytes)?,
            frames: 0,
        })
    }

    /// How many frames were read.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Reads the next frame; none at the end.
    ///
    /// # Errors
    /// [`RecordingError`]; nothing more can be read then.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, RecordingError> {
        let frames = self.frames;
        let mut length = Vec::with_capacity(4);
        self.read(4, &mut length)?;
        let Ok(length) = <[u8; 4]>::try_from(length.as_slice()) else {
            return if length.is_empty() {
                Ok(None)
            } else {
                Err(RecordingError::Truncated { frames })
            };
        };
        let length = u32::from_le_bytes(length);
        if length as usize > FRAME_BYTES_MAX {
            return Err(RecordingError::Oversized {
                frames,
                bytes: u64::from(length),
                bytes_max: FRAME_BYTES_MAX,
            });
        }
        let mut frame = Vec::with_capacity(length as usize);
        self.read(u64::from(length), &mut frame)?;
        if frame.len() < length as usize {
            return Err(RecordingError::Truncated { frames });
        }
        self.frames += 1;
        Ok(Some(frame.into()))
    }

    /// Reads `count` bytes, or fewer at the end of the file.
    fn read(&mut self, count: u64, into: &mut Vec<u8>) -> Result<(), RecordingError> {
        match (&mut self.bytes).take(count).read_to_end(into) {
            Ok(_) => Ok(()),
            // zstd tells so that its own stream was cut short.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(RecordingError::Truncated {
                    frames: self.frames,
                })
            }
            Err(source) => Err(RecordingError::Io {
                frames: self.frames,
                source,
            }),
        }
    }
}

/// The bytes behind `bytes`, which may be zstd.
pub(crate) fn unpacked(bytes: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut bytes = BufReader::with_capacity(1 << 20, bytes);
    // The buffer is larger than the magic, and only a pipe could give less than four bytes at once.
    if bytes.fill_buf()?.starts_with(&ZSTD_MAGIC) {
        let mut decoder = zstd::Decoder::with_buffer(bytes)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        Ok(Box::new(BufReader::with_capacity(1 << 20, decoder)))
    } else {
        Ok(Box::new(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_plain_and_packed() {
        let plain = recording(&[b"one", b"", b"three"]);
        let packed = zstd::encode_all(plain.as_slice(), 3).expect("in memory");
        for bytes in [plain, packed] {
            let mut recording = open(bytes);
            for expected in ["one", "", "three"] {
                assert_eq!(frame(&mut recording).as_deref(), Some(expected.as_bytes()));
            }
            assert_eq!(frame(&mut recording), None);
            assert_eq!(recording.frames(), 3);
        }
    }

    #[test]
    fn an_empty_file_is_an_empty_recording() {
        assert_eq!(frame(&mut open(Vec::new())), None);
    }

    #[test]
    fn a_cut_is_told_after_the_frames_before_it() {
        let bytes = recording(&[b"one", b"three"]);
        for length in 8..bytes.len() {
            let mut recording = open(bytes[..length].to_vec());
            assert!(frame(&mut recording).is_some());
            assert!(matches!(
                recording.next_frame(),
                Err(RecordingError::Truncated { frames: 1 })
            ));
        }
    }

    #[test]
    fn a_packed_recording_that_was_cut_is_told() {
        let plain = recording(&[&[7; 100_000], b"three"]);
        let packed = zstd::encode_all(plain.as_slice(), 3).expect("in memory");
        let mut recording = open(packed[..packed.len() - 3].to_vec());
        let error = loop {
            match recording.next_frame() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the end is missing"),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, RecordingError::Truncated { .. }),
            "{error:?}"
        );
    }

    #[test]
    fn an_impossible_length_is_told_before_anything_is_allocated() {
        let mut bytes = recording(&[b"one"]);
        bytes.extend(5_000_001_u32.to_le_bytes());
        let mut recording = open(bytes);
        assert!(frame(&mut recording).is_some());
        assert!(matches!(
            recording.next_frame(),
            Err(RecordingError::Oversized {
                frames: 1,
                bytes: 5_000_001,
                ..
            })
        ));
    }

    fn recording(frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend(u32::try_from(frame.len()).expect("short").to_le_bytes());
            bytes.extend(*frame);
        }
        bytes
    }

    fn open(bytes: Vec<u8>) -> Recording {
        Recording::of(io::Cursor::new(bytes)).expect("in memory")
    }

    fn frame(recording: &mut Recording) -> Option<Bytes> {
        recording.next_frame().expect("a whole frame")
    }
}
