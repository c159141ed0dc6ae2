//! One value, sealed with one key.
//!
//! AES-GCM with a random nonce in front of the ciphertext. The key under which the value is stored is authenticated
//! along with it: somebody who can write to the database but has no key cannot pass one Secret off as another.

use bytes::{BufMut as _, Bytes, BytesMut};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::sync::Arc;

/// How all sealed values start, whatever sealed them.
pub(super) const SEALED: &[u8] = b"k8s:enc:";
/// How values sealed here start; the name of the key and a colon follow.
const OURS: &[u8] = b"k8s:enc:aesgcm:v1:";
const TAG_LEN: usize = 16;

/// A named key, cheap to clone.
#[derive(Clone)]
pub(super) struct Key {
    name: Arc<str>,
    aead: Arc<LessSafeKey>,
}

impl Key {
    /// From 16 or 32 bytes; `None` for any other number.
    pub(super) fn new(name: &str, secret: &[u8]) -> Option<Key> {
        let algorithm = match secret.len() {
            16 => &AES_128_GCM,
            32 => &AES_256_GCM,
            _ => return None,
        };
        let unbound = UnboundKey::new(algorithm, secret).ok()?;
        Some(Key {
            name: name.into(),
            aead: Arc::new(LessSafeKey::new(unbound)),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// `None` if there are no random numbers.
    pub(super) fn seal(&self, random: &SystemRandom, place: &str, plain: &[u8]) -> Option<Bytes> {
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce).ok()?;
        let start = OURS.len() + self.name.len() + 1 + NONCE_LEN;
        let mut sealed = BytesMut::with_capacity(start + plain.len() + TAG_LEN);
        sealed.put_slice(OURS);
        sealed.put_slice(self.name.as_bytes());
        sealed.put_u8(b':');
        sealed.put_slice(&nonce);
        sealed.put_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from(place.as_bytes());
        let tag = self
            .aead
            .seal_in_place_separate_tag(nonce, aad, &mut sealed[start..])
            .ok()?;
        sealed.put_slice(tag.as_ref());
        Some(sealed.freeze())
    }

    /// Opens what [`parse`] took apart; `None` if it was sealed with another key, for another place, or was changed.
    pub(super) fn open(&self, place: &str, sealed: &Parsed<'_>) -> Option<Bytes> {
        let (nonce, ciphertext) = sealed.payload.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = ciphertext.to_vec();
        let length = self
            .aead
            .open_in_place(nonce, Aad::from(place.as_bytes()), &mut plain)
            .ok()?
            .len();
        plain.truncate(length);
        Some(plain.into())
    }
}

/// A sealed value, taken apart.
pub(super) struct Parsed<'a> {
    pub(super) key_name: &'a str,
    payload: &'a [u8],
}

/// `None` if this was not sealed here.
pub(super) fn parse(value: &[u8]) -> Option<Parsed<'_>> {
    let rest = value.strip_prefix(OURS)?;
    let colon = rest.iter().position(|byte| *byte == b':')?;
    Some(Parsed {
        key_name: std::str::from_utf8(&rest[..colon]).ok()?,
        payload: &rest[colon + 1..],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(key: &Key, place: &str, plain: &[u8]) -> Bytes {
        key.seal(&SystemRandom::new(), place, plain).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_only_with_its_key_at_its_place() {
        let (one, two) = (Key::new("one", &[1; 32]).unwrap(), Key::new("one", &[2; 32]).unwrap());
        for plain in [&b""[..], b"{}", &[7; 5000]] {
            let value = sealed(&one, "/a", plain);
            let parsed = parse(&value).unwrap();
            assert_eq!(parsed.key_name, "one");
            assert_eq!(one.open("/a", &parsed).as_deref(), Some(plain));
            assert_eq!(one.open("/b", &parsed), None, "moved to another place");
            assert_eq!(two.open("/a", &parsed), None, "another key of the same name");
            assert!(plain.len() < 8 || !value.windows(8).any(|window| window == &plain[..8]));
        }
    }

    #[test]
    fn a_changed_or_shortened_value_does_not_open() {
        let key = Key::new("k", &[3; 16]).unwrap();
        let value = sealed(&key, "/a", b"{\"kind\":\"Secret\"}");
        let start = OURS.len() + 2;
        for at in start..value.len() {
            let mut changed = value.to_vec();
            changed[at] ^= 1;
            assert_eq!(key.open("/a", &parse(&changed).unwrap()), None, "byte {at}");
            assert_eq!(key.open("/a", &parse(&value[..at]).unwrap()), None, "cut at {at}");
        }
    }

    #[test]
    fn the_same_value_never_looks_the_same() {
        let key = Key::new("k", &[3; 32]).unwrap();
        assert_ne!(sealed(&key, "/a", b"{}"), sealed(&key, "/a", b"{}"));
    }

    #[test]
    fn only_lengths_of_aes_make_keys() {
        for length in [0, 15, 24, 31, 33] {
            assert!(Key::new("k", &vec![0; length]).is_none(), "{length}");
        }
    }
}
