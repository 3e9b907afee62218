-- Ports of the host that a VM is let to: JSON of a list.

ALTER TABLE vm ADD COLUMN allow_host TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(allow_host));
