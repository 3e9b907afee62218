package store

import (
	"context"
	"database/sql"
	"errors"

	"banger"
)

// Stamp returns what an artifact's file looked like when it was last hashed;
// ok is false if that was never stored.
func (s *Store) Stamp(ctx context.Context, d banger.Digest) (f banger.FileStamp, ok bool, err error) {
	row := s.db.QueryRowContext(ctx, `SELECT digest, size, inode, mtime, ctime FROM stamp WHERE digest = ?`, d)
	st, err := scanStamp(row)
	if errors.Is(err, sql.ErrNoRows) {
		return f, false, nil
	}
	return st.FileStamp, err == nil, s.failed("read stamp", err)
}

// PutStamp stores it, over an older one.
func (s *Store) PutStamp(ctx context.Context, d banger.Digest, f banger.FileStamp) error {
	return s.write(ctx, "put stamp", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `REPLACE INTO stamp (digest, size, inode, mtime, ctime) VALUES (?,?,?,?,?)`,
			d, f.Size, int64(f.Inode), f.Mtime, f.Ctime)
		return err
	})
}

// DeleteStamp forgets it; one that is not there is success.
func (s *Store) DeleteStamp(ctx context.Context, d banger.Digest) error {
	return s.write(ctx, "delete stamp", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM stamp WHERE digest = ?`, d)
		return err
	})
}

// Stamps returns all of them.
func (s *Store) Stamps(ctx context.Context) (map[banger.Digest]banger.FileStamp, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT digest, size, inode, mtime, ctime FROM stamp`)
	if err != nil {
		return nil, s.failed("list stamps", err)
	}
	list, err := collect(rows, scanStamp)
	all := map[banger.Digest]banger.FileStamp{}
	for _, st := range list {
		all[st.digest] = st.FileStamp
	}
	return all, s.failed("list stamps", err)
}

type stampRow struct {
	digest banger.Digest
	banger.FileStamp
}

func scanStamp(row scanner) (st stampRow, err error) {
	var inode int64
	err = row.Scan(&st.digest, &st.Size, &inode, &st.Mtime, &st.Ctime)
	st.Inode = uint64(inode)
	return st, err
}
