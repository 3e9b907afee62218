package store

import "io/fs"

// MigrationNames are the files of the migrations, in their order.
func MigrationNames() ([]string, error) { return fs.Glob(migrations, "migrations/*.sql") }
