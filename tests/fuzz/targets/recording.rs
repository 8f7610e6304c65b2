//! Recordings: what is read is what stands there, and nothing is read behind an error.

use std::io::Cursor;

use ingest::Recording;

/// Fuzzes `Recording::next_frame`, plain and as zstd.
pub(crate) fn recording(data: &[u8]) {
    let Ok(mut recording) = Recording::of(Cursor::new(data.to_vec())) else {
        return;
    };
    let is_plain = !data.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let mut rest = data;
    let mut frames = 0;
    loop {
        match recording.next_frame() {
            Ok(Some(frame)) => {
                frames += 1;
                if is_plain {
                    let (length, after) = rest.split_at(4);
                    let length = u32::from_le_bytes(length.try_into().expect("4 bytes")) as usize;
                    assert_eq!(frame, after[..length]);
                    rest = &after[length..];
                }
            }
            Ok(None) => {
                assert!(!is_plain || rest.is_empty());
                break;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                break;
            }
        }
    }
    assert_eq!(recording.frames(), frames);
}
