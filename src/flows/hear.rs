//! What a node does on hearing a control message, its own or another node's.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    events::Control,
    fleet::Fleet,
    hub::{Close, Registry, wire},
    identity::Credentials,
    ids::{RuntimeId, WorkspaceId},
    protocol::{
        browser::Outbound,
        close,
        profile::profiles_changed,
        task::{task_available, task_cancelled},
    },
};

/// Acts on control messages.
pub struct Ears {
    /// The sockets of this node.
    pub registry: Arc<Registry>,
    /// What it believes about secrets and memberships.
    pub credentials: Arc<Credentials>,
    /// What it believes about runtimes.
    pub fleet: Arc<Fleet>,
}

impl Ears {
    /// Acts on one. Does not block, and is right to do twice.
    pub fn hear(&self, message: &Control) {
        match message {
            Control::RuntimesChanged { ids } => self.fleet.forget_facts(ids),
            Control::RuntimesGone { ids } => {
                self.fleet.forget_facts(ids);
                for id in ids {
                    self.registry.send_to_runtime(*id, &self.fleet.gone_frame(*id));
                }
            }
            Control::RuntimesTaken { ids } => {
                self.fleet.forget_facts(ids);
                self.registry.take_runtimes(ids, &revoked());
                let (fleet, ids) = (self.fleet.clone(), ids.clone());
                tokio::spawn(async move { fleet.forget_leases(&ids).await });
            }
            Control::ProfilesChanged { workspace, profile, gone } => {
                self.tell_daemons(*workspace, gone.clone(), wire::text(&profiles_changed(*workspace, *profile)));
            }
            Control::TaskAvailable { runtime, task } => {
                self.registry.send_to_runtime(*runtime, &wire::text(&task_available(*runtime, *task)));
            }
            Control::TaskEnded { runtime, task, reason } => {
                self.registry.send_to_runtime(*runtime, &wire::text(&task_cancelled(*runtime, *task, reason)));
            }
            Control::TokenEnded { token } => {
                self.credentials.forget_token(*token);
                self.registry.close_token(*token, &revoked());
            }
            Control::TokensChanged { tokens } => tokens.iter().for_each(|token| self.credentials.forget_token(*token)),
            Control::SessionEnded { session } => {
                self.credentials.forget_token(*session);
                self.registry.close_session(*session, &revoked());
            }
            Control::Membership { workspace, user } => self.credentials.forget_membership(*workspace, Some(*user)),
            Control::WorkspaceGone { workspace } => self.credentials.forget_membership(*workspace, None),
            Control::Hint { user, but_not_in, frame } => {
                self.registry.send_to_user(*user, &wire::text(frame), *but_not_in);
            }
            Control::HintsLost => self.registry.send_to_browsers(&wire::text(&Outbound::PersonalResync {}.json())),
        }
    }

    /// Sends a frame to the daemons that drive runtimes of a workspace, by what is known of these, or that drove
    /// those that are gone.
    fn tell_daemons(&self, workspace: WorkspaceId, gone: Vec<RuntimeId>, frame: Bytes) {
        let (registry, fleet) = (self.registry.clone(), self.fleet.clone());
        tokio::spawn(async move {
            let daemons = registry.daemons();
            let driven: Vec<RuntimeId> = daemons.iter().flat_map(|(_, driven)| driven).copied().collect();
            let homes = match fleet.homes(&driven).await {
                Ok(homes) => homes,
                Err(error) => return tracing::warn!(%workspace, %error, "daemons are not told of changed profiles"),
            };
            for (mailbox, driven) in daemons {
                if driven.iter().any(|runtime| homes.get(runtime) == Some(&workspace) || gone.contains(runtime)) {
                    mailbox.send(frame.clone());
                }
            }
        });
    }
}

fn revoked() -> Close {
    Close::new(close::REVOKED, "revoked")
}
