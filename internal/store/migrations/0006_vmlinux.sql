-- A kernel as an ELF file, beside the bzImage: JSON of an artifact, zero for none.

ALTER TABLE image ADD COLUMN vmlinux TEXT NOT NULL DEFAULT '{"digest":"","size_bytes":0}';
