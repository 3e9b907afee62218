-- Times are nanoseconds since 1970, UTC. Columns are what the daemon looks for
-- or what must be unique; what it only carries along is JSON.

CREATE TABLE setting (
	key   TEXT PRIMARY KEY,
	value TEXT NOT NULL
) STRICT;

CREATE TABLE image (
	id         TEXT    PRIMARY KEY CHECK (length(id) = 12 AND id NOT GLOB '*[^0-9a-f]*'),
	name       TEXT    UNIQUE CHECK (name <> ''), -- NULL once a newer image took it
	is_default INTEGER NOT NULL CHECK (is_default IN (0, 1)),
	os         TEXT    NOT NULL,
	release    TEXT    NOT NULL,
	rootfs     TEXT    NOT NULL CHECK (json_valid(rootfs)),
	kernel     TEXT    NOT NULL CHECK (json_valid(kernel)),
	initramfs  TEXT    NOT NULL CHECK (json_valid(initramfs)),
	modules    TEXT    NOT NULL CHECK (json_valid(modules)),
	created_at INTEGER NOT NULL,
	source     TEXT    NOT NULL
) STRICT;

CREATE UNIQUE INDEX image_default ON image (is_default) WHERE is_default = 1;

CREATE TABLE vm (
	id         TEXT    PRIMARY KEY CHECK (length(id) = 8 AND id NOT GLOB '*[^0-9a-f]*'),
	name       TEXT    NOT NULL UNIQUE CHECK (name <> ''),
	image      TEXT    NOT NULL,
	image_id   TEXT    NOT NULL REFERENCES image (id) ON DELETE RESTRICT,
	cpus       INTEGER NOT NULL CHECK (cpus > 0),
	memory     INTEGER NOT NULL CHECK (memory > 0),
	disk       INTEGER NOT NULL CHECK (disk > 0),
	network    TEXT    NOT NULL CHECK (network IN ('user', 'routed')),
	backend    TEXT    NOT NULL CHECK (backend <> ''),
	address    TEXT    NOT NULL UNIQUE CHECK (address <> ''),
	mac        TEXT    NOT NULL UNIQUE CHECK (length(mac) = 17),
	machine_id TEXT    NOT NULL UNIQUE CHECK (length(machine_id) = 32),
	host_key   TEXT    NOT NULL,
	intent     TEXT    NOT NULL CHECK (intent IN ('creating', 'stopped', 'running', 'deleting')),
	run        TEXT    CHECK (json_valid(run)),
	last_exit  TEXT    CHECK (json_valid(last_exit)),
	problem    TEXT    CHECK (json_valid(problem)),
	created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX vm_image ON vm (image_id);

CREATE TABLE stamp (
	digest TEXT    PRIMARY KEY CHECK (length(digest) = 71),
	size   INTEGER NOT NULL,
	inode  INTEGER NOT NULL, -- the bits of a uint64
	mtime  INTEGER NOT NULL,
	ctime  INTEGER NOT NULL
) STRICT;
