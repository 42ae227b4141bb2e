-- An event that is not for everybody in full: who gets its payload, and what the others get.
ALTER TABLE event_log
    ADD COLUMN audience      text CHECK (audience IN ('only', 'owner_and_admins')),
    ADD COLUMN audience_user uuid,
    ADD COLUMN reduced       text;
