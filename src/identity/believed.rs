//! What a node believes about secrets and memberships, so that a beat costs no statement. Only what
//! was found to hold is believed, and no longer than it holds by itself. Beliefs are dropped by
//! control messages, and all of them are checked every half minute; one that was read before a
//! drop is not stored.

use std::collections::HashMap;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Credential, Role};
use crate::{
    drops::Drops,
    ids::{UserId, WorkspaceId},
    time::Timestamp,
};

/// Beliefs of one kind at most; beyond it all are read again.
const MOST: usize = 100_000;

/// Somebody somewhere.
type Membership = (WorkspaceId, UserId);
/// SHA-256 of a secret.
type Key = [u8; 32];

/// The beliefs.
#[derive(Default)]
pub(super) struct Believed(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    credentials: HashMap<Key, Credential>,
    /// The secrets that rest on a token's or a session's row.
    resting: HashMap<Uuid, Vec<Key>>,
    roles: HashMap<Membership, Role>,
    drops: Drops<Dropped>,
}

/// What is believed no longer.
enum Dropped {
    /// What rests on a token or a session.
    Row(Uuid),
    /// Somebody's membership, or all of a workspace's, and what rests on it.
    Membership(WorkspaceId, Option<UserId>),
}

impl Dropped {
    fn is_role(&self, workspace: WorkspaceId, user: UserId) -> bool {
        matches!(self, Self::Membership(place, whose) if *place == workspace && whose.is_none_or(|whose| whose == user))
    }

    fn is_credential(&self, credential: &Credential) -> bool {
        match self {
            Self::Row(row) => rows_of(credential).any(|other| other == *row),
            Self::Membership(..) => {
                let identity = &credential.identity;
                identity.confined_to().is_some_and(|workspace| self.is_role(workspace, identity.user()))
            }
        }
    }
}

fn rows_of(credential: &Credential) -> impl Iterator<Item = Uuid> + use<> {
    let holder = credential.identity.holder();
    [holder.token, holder.session].into_iter().filter(|row| !row.is_nil())
}

impl Inner {
    fn remove(&mut self, key: &Key) {
        let Some(credential) = self.credentials.remove(key) else { return };
        for row in rows_of(&credential) {
            if let Some(keys) = self.resting.get_mut(&row) {
                keys.retain(|other| other != key);
                if keys.is_empty() {
                    self.resting.remove(&row);
                }
            }
        }
    }

    fn clear_credentials(&mut self) {
        self.credentials.clear();
        self.resting.clear();
    }
}

impl Believed {
    pub(super) fn key(secret: &str) -> Key {
        Sha256::digest(secret.as_bytes()).into()
    }

    pub(super) fn credential(&self, key: &Key, now: Timestamp) -> Option<Credential> {
        let mut inner = self.0.lock();
        let found = inner.credentials.get(key)?;
        if found.expires_at.is_some_and(|end| end <= now) {
            inner.remove(key);
            return None;
        }
        Some(found.clone())
    }

    pub(super) fn role(&self, workspace: WorkspaceId, user: UserId) -> Option<Role> {
        self.0.lock().roles.get(&(workspace, user)).copied()
    }

    /// To be taken before the store is read, and given to what learns from it.
    pub(super) fn before_reading(&self) -> u64 {
        self.0.lock().drops.mark()
    }

    pub(super) fn learn_credential(&self, key: Key, credential: Credential, before_reading: u64) {
        let mut inner = self.0.lock();
        if inner.drops.since(before_reading, |dropped| dropped.is_credential(&credential)) {
            return;
        }
        if inner.credentials.len() >= MOST {
            inner.clear_credentials();
        }
        inner.remove(&key);
        for row in rows_of(&credential) {
            inner.resting.entry(row).or_default().push(key);
        }
        inner.credentials.insert(key, credential);
    }

    pub(super) fn learn_role(&self, workspace: WorkspaceId, user: UserId, role: Role, before_reading: u64) {
        let mut inner = self.0.lock();
        if inner.drops.since(before_reading, |dropped| dropped.is_role(workspace, user)) {
            return;
        }
        if inner.roles.len() >= MOST {
            inner.roles.clear();
        }
        inner.roles.insert((workspace, user), role);
    }

    /// What rests on a token or a session.
    pub(super) fn drop_row(&self, row: Uuid) {
        let mut inner = self.0.lock();
        inner.drops.note(Dropped::Row(row));
        for key in inner.resting.get(&row).cloned().unwrap_or_default() {
            inner.remove(&key);
        }
    }

    /// Also of credentials that rest on the membership.
    pub(super) fn drop_membership(&self, workspace: WorkspaceId, user: Option<UserId>) {
        let mut inner = self.0.lock();
        let dropped = Dropped::Membership(workspace, user);
        let theirs: Vec<Key> = inner
            .credentials
            .iter()
            .filter(|(_, credential)| dropped.is_credential(credential))
            .map(|(key, _)| *key)
            .collect();
        theirs.iter().for_each(|key| inner.remove(key));
        inner.roles.retain(|(place, whose), _| !dropped.is_role(*place, *whose));
        inner.drops.note(dropped);
    }

    #[cfg(feature = "test-hooks")]
    pub(super) fn drop_everything(&self) {
        let mut inner = self.0.lock();
        inner.drops.note_all();
        inner.clear_credentials();
        inner.roles.clear();
    }

    /// What is believed: the rows of tokens and sessions, and memberships with the role, where one is.
    pub(super) fn rows(&self) -> (Vec<Uuid>, Vec<(Membership, Option<Role>)>) {
        let inner = self.0.lock();
        let roles = inner.roles.iter().map(|(membership, role)| (*membership, Some(*role)));
        let confined = inner.credentials.values().filter_map(|credential| {
            let identity = &credential.identity;
            identity.confined_to().map(|workspace| ((workspace, identity.user()), None))
        });
        (inner.resting.keys().copied().collect(), roles.chain(confined).collect())
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
        believed.drop_row(token.0);
        believed.learn_credential(key, credential(token, None), before);
        assert!(believed.credential(&key, Timestamp(0)).is_none(), "what was read before the drop may be stale");
        believed.learn_credential(key, credential(token, None), believed.before_reading());
        believed.drop_row(token.0);
        assert!(believed.credential(&key, Timestamp(0)).is_none());
    }

    #[test]
    fn what_others_lose_meanwhile_keeps_nobody_from_being_believed() {
        let believed = Believed::default();
        let (key, token) = (Believed::key("a"), TokenId::fresh());
        let (workspace, user) = (WorkspaceId::fresh(), UserId::fresh());
        let before = believed.before_reading();
        believed.drop_row(TokenId::fresh().0);
        believed.drop_membership(workspace, Some(UserId::fresh()));
        believed.learn_credential(key, credential(token, None), before);
        believed.learn_role(workspace, user, Role::Member, before);
        assert!(believed.credential(&key, Timestamp(0)).is_some());
        assert!(believed.role(workspace, user).is_some());
        believed.drop_membership(workspace, None);
        believed.learn_role(workspace, user, Role::Member, before);
        assert!(believed.role(workspace, user).is_none());
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
