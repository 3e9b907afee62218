-- Whether a VM in mode routed reaches the world. Those that are there never did,
-- and somebody may count on that.

ALTER TABLE vm ADD COLUMN nat TEXT NOT NULL DEFAULT 'wanted' CHECK (nat IN ('off', 'wanted', 'required'));
UPDATE vm SET nat = 'off' WHERE network = 'routed';
