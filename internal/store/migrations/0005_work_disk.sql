-- A disk of its own for /root; 0: none, as VMs from before have.
ALTER TABLE vm ADD COLUMN work_disk INTEGER NOT NULL DEFAULT 0 CHECK (work_disk >= 0);
