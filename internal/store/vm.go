package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"

	"banger"
)

// CreateVM stores a new VM. Its lease is what lease chooses, inside the
// transaction that stores it: given all leases that are taken, it can choose
// none twice. A name that is taken is Exists.
func (s *Store) CreateVM(ctx context.Context, r banger.Record, lease func(taken []banger.Lease) (banger.Lease, error)) (banger.Record, error) {
	if r.Spec.Publish == nil {
		r.Spec.Publish = []banger.Publish{} // null in no row and no answer
	}
	err := s.write(ctx, "create VM "+r.Spec.Name, func(tx *sql.Tx) error {
		if err := nameFree(ctx, tx, r.Spec.Name); err != nil {
			return err
		}
		taken, err := leases(ctx, tx)
		if err != nil {
			return err
		}
		if r.Lease, err = lease(taken); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO vm (`+columns+`) VALUES `+places, values(r)...)
		return err
	})
	if err != nil {
		return banger.Record{}, err
	}
	return r, nil
}

func nameFree(ctx context.Context, tx *sql.Tx, name string) error {
	var id banger.VMID
	err := tx.QueryRowContext(ctx, `SELECT id FROM vm WHERE name = ?`, name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return banger.Errorf(banger.Exists, "a VM named %s exists already (%s)", name, id).
		WithRemedy("choose another name, or delete it: banger rm %s", name)
}

func leases(ctx context.Context, tx *sql.Tx) (taken []banger.Lease, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+columns+` FROM vm`)
	if err != nil {
		return nil, err
	}
	records, err := collect(rows, scanRecord)
	for _, r := range records {
		taken = append(taken, r.Lease)
	}
	return taken, err
}

// VM returns the VM with this ID, whole.
func (s *Store) VM(ctx context.Context, id banger.VMID) (banger.Record, error) {
	r, err := scanRecord(s.db.QueryRowContext(ctx, `SELECT `+columns+` FROM vm WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return r, unknownVM(string(id), nil)
	}
	return r, s.failed("read VM "+string(id), err)
}

// VMs returns all VMs by name.
func (s *Store) VMs(ctx context.Context) ([]banger.Record, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT `+columns+` FROM vm ORDER BY name`)
	if err != nil {
		return nil, s.failed("list VMs", err)
	}
	all, err := collect(rows, scanRecord)
	return all, s.failed("list VMs", err)
}

// UpdateVM lets change edit the stored record and stores the result, in one
// transaction, and returns it. What a VM is for good (ID, lease, image ID,
// creation time) may not be changed; an error of change leaves all as it was.
func (s *Store) UpdateVM(ctx context.Context, id banger.VMID, change func(*banger.Record) error) (r banger.Record, err error) {
	err = s.write(ctx, "update VM "+string(id), func(tx *sql.Tx) error {
		old, err := scanRecord(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM vm WHERE id = ?`, id))
		if errors.Is(err, sql.ErrNoRows) {
			return unknownVM(string(id), nil)
		}
		if err != nil {
			return err
		}
		r = old
		if err := change(&r); err != nil {
			return err
		}
		if r.Spec.Publish == nil {
			r.Spec.Publish = []banger.Publish{}
		}
		if r.ID != old.ID || r.Lease != old.Lease || r.ImageID != old.ImageID || !r.CreatedAt.Equal(old.CreatedAt) {
			return banger.Errorf(banger.Internal, "update VM %s: what it is for good was changed", id)
		}
		if r.Spec.Name != old.Spec.Name {
			if err := nameFree(ctx, tx, r.Spec.Name); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `UPDATE vm SET (`+columns+`) = `+places+` WHERE id = ?`, append(values(r), id)...)
		return err
	})
	if err != nil {
		return banger.Record{}, err
	}
	return r, nil
}

// MoveSubnet stores the installation's subnet and moves every VM's address by
// move, in one transaction, as whose last act moved is called. WrongState, and
// nothing is changed, while a VM has a run.
func (s *Store) MoveSubnet(ctx context.Context, subnet string, move func(netip.Addr) (netip.Addr, error), moved func()) error {
	return s.write(ctx, "move to subnet "+subnet, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT `+columns+` FROM vm ORDER BY name`)
		if err != nil {
			return err
		}
		all, err := collect(rows, scanRecord)
		if err != nil {
			return err
		}
		// Out of the way first: a new address may be another's old one.
		if _, err := tx.ExecContext(ctx, `UPDATE vm SET address = 'moving ' || id`); err != nil {
			return err
		}
		for _, r := range all {
			if r.Run != nil {
				return banger.Errorf(banger.WrongState, "%s is running", r.Spec.Name).WithRemedy("banger stop --all")
			}
			to, err := move(r.Lease.Addr)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `UPDATE vm SET address = ? WHERE id = ?`, to.String(), r.ID); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO setting (key, value) VALUES ('subnet', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, subnet)
		if err == nil {
			moved()
		}
		return err
	})
}

// DeleteVM forgets a VM and gives its lease back; one that is not there is
// success.
func (s *Store) DeleteVM(ctx context.Context, id banger.VMID) error {
	return s.write(ctx, "delete VM "+string(id), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM vm WHERE id = ?`, id)
		return err
	})
}

// collect reads all rows and closes them.
func collect[T any](rows *sql.Rows, scan func(scanner) (T, error)) (all []T, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("read a row: %w", err)
		}
		all = append(all, v)
	}
	return all, rows.Err()
}
