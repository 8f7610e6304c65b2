//! The numbers by which sections and identities know the values of enums. They are part of the log's format.

use atproto::{Action, Verification};

use crate::change::{EventKind, NoticeKind};

pub(crate) fn verification(value: Verification) -> u8 {
    match value {
        Verification::Archive => 0,
        Verification::Signature => 1,
        Verification::Inclusion => 2,
        Verification::Inverted => 3,
    }
}

pub(crate) fn to_verification(code: u32) -> Option<Verification> {
    Some(match code {
        0 => Verification::Archive,
        1 => Verification::Signature,
        2 => Verification::Inclusion,
        3 => Verification::Inverted,
        _ => return None,
    })
}

pub(crate) fn action(value: Action) -> u8 {
    match value {
        Action::Create => 1,
        Action::Update => 2,
        Action::Delete => 3,
    }
}

#[allow(
    clippy::option_option,
    reason = "unknown and absent are different answers"
)]
pub(crate) fn to_action(code: u32) -> Option<Option<Action>> {
    Some(match code {
        0 => None,
        1 => Some(Action::Create),
        2 => Some(Action::Update),
        3 => Some(Action::Delete),
        _ => return None,
    })
}

pub(crate) fn event_kind(value: EventKind) -> u8 {
    match value {
        EventKind::Commit => 0,
        EventKind::Identity => 1,
        EventKind::Account => 2,
        EventKind::Sync => 3,
    }
}

pub(crate) fn to_event_kind(code: u32) -> Option<EventKind> {
    Some(match code {
        0 => EventKind::Commit,
        1 => EventKind::Identity,
        2 => EventKind::Account,
        3 => EventKind::Sync,
        _ => return None,
    })
}

pub(crate) fn notice_kind(value: NoticeKind) -> u8 {
    match value {
        NoticeKind::Rejection => 0,
        NoticeKind::Resync => 1,
        NoticeKind::Gap => 2,
        NoticeKind::Silence => 3,
    }
}

pub(crate) fn to_notice_kind(code: u32) -> Option<NoticeKind> {
    Some(match code {
        0 => NoticeKind::Rejection,
        1 => NoticeKind::Resync,
        2 => NoticeKind::Gap,
        3 => NoticeKind::Silence,
        _ => return None,
    })
}
