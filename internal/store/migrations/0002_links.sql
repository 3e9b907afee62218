-- What a VM may reach and be reached by, and whether it starts with the daemon.

ALTER TABLE vm ADD COLUMN isolated  INTEGER NOT NULL DEFAULT 0 CHECK (isolated IN (0, 1));
ALTER TABLE vm ADD COLUMN publish   TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(publish));
ALTER TABLE vm ADD COLUMN autostart INTEGER NOT NULL DEFAULT 0 CHECK (autostart IN (0, 1));
