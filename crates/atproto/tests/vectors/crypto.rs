//! `crypto/`: signatures that hold or don't, and keys with their `did:key:` names.

use atproto::{PublicKey, SignatureError};
use data_encoding::{BASE64_NOPAD, HEXLOWER};

use super::read_list;

fn field<'a>(vector: &'a serde_json::Value, name: &str) -> &'a str {
    vector[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} of {vector}"))
}

fn base64(text: &str) -> Vec<u8> {
    BASE64_NOPAD.decode(text.as_bytes()).expect("base64")
}

#[test]
fn signatures_hold_exactly_where_they_should() {
    let vectors = read_list("crypto/signature-fixtures.json");
    assert_eq!(vectors.len(), 6);
    let (mut valid, mut high, mut der) = (0, 0, 0);
    for vector in &vectors {
        let key = PublicKey::from_did_key(field(vector, "publicKeyDid")).expect("a key");
        match (field(vector, "algorithm"), &key) {
            ("ES256", PublicKey::P256(_)) | ("ES256K", PublicKey::K256(_)) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(key.to_did_key(), field(vector, "publicKeyDid"));
        // The older spelling of the same key, without a code for its curve.
        let point = field(vector, "publicKeyMultibase")
            .strip_prefix('z')
            .expect("base58");
        assert_eq!(
            bs58::decode(point).into_vec().expect("base58"),
            key.to_compressed()
        );

        let message = base64(field(vector, "messageBase64"));
        let result = key.verify(&message, &base64(field(vector, "signatureBase64")));
        let tags = vector["tags"].as_array().expect("tags");
        assert_eq!(
            result.is_ok(),
            vector["validSignature"].as_bool().expect("a verdict"),
            "{vector}"
        );
        if tags.iter().any(|tag| tag == "high-s") {
            assert_eq!(result, Err(SignatureError::HighS));
            high += 1;
        } else if tags.iter().any(|tag| tag == "der-encoded") {
            assert!(matches!(result, Err(SignatureError::Length { .. })));
            der += 1;
        } else {
            assert_eq!(
                key.verify(
                    b"another message",
                    &base64(field(vector, "signatureBase64"))
                ),
                Err(SignatureError::Mismatch)
            );
            valid += 1;
        }
    }
    assert_eq!((valid, high, der), (2, 2, 2));
}

#[test]
fn private_keys_have_the_named_k256_keys() {
    let vectors = read_list("crypto/w3c_didkey_K256.json");
    assert_eq!(vectors.len(), 5);
    for vector in &vectors {
        let secret = HEXLOWER
            .decode(field(vector, "privateKeyBytesHex").as_bytes())
            .expect("hexadecimal");
        let secret = k256::ecdsa::SigningKey::from_slice(&secret).expect("a key");
        let key = PublicKey::K256(*secret.verifying_key());
        assert_eq!(key.to_did_key(), field(vector, "publicDidKey"));
        assert_eq!(
            PublicKey::from_did_key(field(vector, "publicDidKey")),
            Ok(key)
        );
    }
}

#[test]
fn private_keys_have_the_named_p256_keys() {
    let vectors = read_list("crypto/w3c_didkey_P256.json");
    assert_eq!(vectors.len(), 1);
    for vector in &vectors {
        let secret = bs58::decode(field(vector, "privateKeyBytesBase58"))
            .into_vec()
            .expect("base58");
        let secret = p256::ecdsa::SigningKey::from_slice(&secret).expect("a key");
        let key = PublicKey::P256(*secret.verifying_key());
        assert_eq!(key.to_did_key(), field(vector, "publicDidKey"));
        assert_eq!(
            PublicKey::from_did_key(field(vector, "publicDidKey")),
            Ok(key)
        );
    }
}
