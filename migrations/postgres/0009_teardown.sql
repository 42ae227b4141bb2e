-- What is left of agents and runtimes that were taken apart.

-- The owner of the private agent that did an autopilot's work, once that agent is gone: it stays private.
ALTER TABLE autopilot ADD COLUMN was_private_to uuid;

-- What a runtime leaves behind, finished work included.
CREATE INDEX task_of_runtime ON task (runtime_id) WHERE runtime_id IS NOT NULL;
