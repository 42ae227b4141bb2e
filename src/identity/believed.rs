//! What a node believes about secrets and memberships, so that a beat costs no statement. Only what
//! was found to hold is believed, and no longer than it holds by itself. Beliefs are dropped by
//! control messages, and all of them are checked every half minute; one that was read before a
//! drop is not stored.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Credential, Role};
use crate::{
    ids::{UserId, WorkspaceId},
    time::Timestamp,
};

/// Beliefs of one kind at most; beyond it all are read again.
const MOST: usize = 100_000;

/// SHA-256 of a secret.
type Key = [u8; 32];

/// The beliefs.
#[derive(Default)]
pub(super) struct Believed {
    credentials: Mutex<HashMap<Key, Credential>>,
    roles: Mutex<HashMap<(WorkspaceId, UserId), Role>>,
    dropped: AtomicU64,
}

impl Believed {
    pub(super) fn key(secret: &str) -> Key {
        Sha256::digest(secret.as_bytes()).into()
    }

    pub(super) fn credential(&self, key: &Key, now: Timestamp) -> Option<Credential> {
        let mut credentials = self.credentials.lock();
        let found = credentials.get(key)?;
        if found.expires_at.is_some_and(|end| end <= now) {
            credentials.remove(key);
            return None;
        }
        Some(found.clone())
    }

    pub(super) fn role(&self, workspace: WorkspaceId, user: UserId) -> Option<Role> {
        self.roles.lock().get(&(workspace, user)).copied()
    }

    /// To be taken before the store is read, and given to what learns from it.
    pub(super) fn before_reading(&self) -> u64 {
        self.dropped.load(Ordering::SeqCst)
    }

    pub(super) fn learn_credential(&self, key: Key, credential: Credential, before_reading: u64) {
        let mut credentials = self.credentials.lock();
        if self.before_reading() == before_reading {
            if credentials.len() >= MOST {
                credentials.clear();
            }
            credentials.insert(key, credential);
        }
    }

    pub(super) fn learn_role(&self, workspace: WorkspaceId, user: UserId, role: Role, before_reading: u64) {
        let mut roles = self.roles.lock();
        if self.before_reading() == before_reading {
            if roles.len() >= MOST {
                roles.clear();
            }
            roles.insert((workspace, user), role);
        }
    }

    pub(super) fn drop_token(&self, row: Uuid) {
        let mut credentials = self.credentials.lock();
        self.dropped.fetch_add(1, Ordering::SeqCst);
        credentials.retain(|_, credential| {
            let holder = credential.identity.holder();
            holder.token != row && holder.session != row
        });
    }

    /// Also of credentials that rest on the membership.
    pub(super) fn drop_membership(&self, workspace: WorkspaceId, user: Option<UserId>) {
        let mut credentials = self.credentials.lock();
        let mut roles = self.roles.lock();
        self.dropped.fetch_add(1, Ordering::SeqCst);
        let theirs = |whose: UserId| user.is_none_or(|user| user == whose);
        credentials.retain(|_, credential| {
            let identity = &credential.identity;
            !(identity.confined_to() == Some(workspace) && theirs(identity.user()))
        });
        roles.retain(|(place, whose), _| !(*place == workspace && theirs(*whose)));
    }

    #[cfg(feature = "test-hooks")]
    pub(super) fn drop_everything(&self) {
        let mut credentials = self.credentials.lock();
        let mut roles = self.roles.lock();
        self.dropped.fetch_add(1, Ordering::SeqCst);
        credentials.clear();
        roles.clear();
    }

    /// The rows that are believed in: tokens and sessions, and memberships.
    pub(super) fn rows(&self) -> (Vec<Uuid>, Vec<(WorkspaceId, UserId)>) {
        let mut tokens = Vec::new();
        let mut memberships: Vec<(WorkspaceId, UserId)> = self.roles.lock().keys().copied().collect();
        for credential in self.credentials.lock().values() {
            let holder = credential.identity.holder();
            tokens.extend([holder.token, holder.session].into_iter().filter(|row| !row.is_nil()));
            memberships.extend(credential.identity.confined_to().map(|workspace| (workspace, holder.user)));
        }
        (tokens, memberships)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::{Identity, Proof},
        ids::TokenId,
    };

    fn credential(token: TokenId, expires_at: Option<Timestamp>) -> Credential {
        Credential { identity: Identity::Person { user: UserId::fresh(), proof: Proof::Token(token) }, expires_at }
    }

    #[test]
    fn a_belief_ends_with_its_token_and_is_not_learnt_from_before_a_drop() {
        let believed = Believed::default();
        let (key, token) = (Believed::key("a"), TokenId::fresh());
        believed.learn_credential(key, credential(token, Some(Timestamp(10))), believed.before_reading());
        assert!(believed.credential(&key, Timestamp(9)).is_some());
        assert!(believed.credential(&key, Timestamp(10)).is_none(), "it has ended by itself");

        let before = believed.before_reading();
        believed.drop_token(token.0);
        believed.learn_credential(key, credential(token, None), before);
        assert!(believed.credential(&key, Timestamp(0)).is_none(), "what was read before the drop may be stale");
        believed.learn_credential(key, credential(token, None), believed.before_reading());
        believed.drop_token(token.0);
        assert!(believed.credential(&key, Timestamp(0)).is_none());
    }

    #[test]
    fn a_dropped_membership_takes_the_role_of_that_person_there_and_no_other() {
        let believed = Believed::default();
        let (here, there, one, two) = (WorkspaceId::fresh(), WorkspaceId::fresh(), UserId::fresh(), UserId::fresh());
        for (workspace, user) in [(here, one), (here, two), (there, one)] {
            believed.learn_role(workspace, user, Role::Member, believed.before_reading());
        }
        believed.drop_membership(here, Some(one));
        assert_eq!(
            [(here, one), (here, two), (there, one)].map(|(w, u)| believed.role(w, u).is_some()),
            [false, true, true]
        );
        believed.drop_membership(here, None);
        assert!(believed.role(here, two).is_none());
    }
}
