package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"banger"
)

// migrations are numbered from 0001 without gaps; PRAGMA user_version is the
// number of the last one applied. One that was released is never changed.
//
//go:embed migrations/*.sql
var migrations embed.FS

// migrate applies what is missing, each migration in a transaction of its own
// together with its number.
func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Glob(migrations, "migrations/*.sql") // sorted
	if err != nil {
		return err
	}
	have, err := s.schema(ctx)
	if err != nil {
		return err
	}
	if have > len(files) {
		return banger.Errorf(banger.HostUnready, "database %s was written by a newer banger (schema %d, this one knows %d)", s.path, have, len(files)).
			WithRemedy("use the newer banger, or set BANGER_STATE_DIR to another directory")
	}
	for n := have + 1; n <= len(files); n++ {
		script, err := migrations.ReadFile(files[n-1])
		if err != nil {
			return err
		}
		err = s.write(ctx, "migrate to "+files[n-1], func(tx *sql.Tx) error {
			var now int
			if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&now); err != nil || now >= n {
				return err // done by another since it was read above
			}
			_, err := tx.ExecContext(ctx, string(script)+fmt.Sprintf("\nPRAGMA user_version = %d;", n))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) schema(ctx context.Context) (n int, err error) {
	err = s.db.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&n)
	return n, s.failed("read its schema number", err)
}
