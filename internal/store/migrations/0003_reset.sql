-- One intent more. A column's CHECK goes with its column alone.

ALTER TABLE vm RENAME COLUMN intent TO old_intent;
ALTER TABLE vm ADD COLUMN intent TEXT NOT NULL DEFAULT 'stopped'
	CHECK (intent IN ('creating', 'stopped', 'running', 'resetting', 'deleting'));
UPDATE vm SET intent = old_intent;
ALTER TABLE vm DROP COLUMN old_intent;
