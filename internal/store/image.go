package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"banger"
)

// PutImage stores an image, or stores it anew under its ID. Its name moves to
// it from an older image, which has none then; so does the default.
func (s *Store) PutImage(ctx context.Context, i banger.Image) error {
	return s.write(ctx, "put image "+i.ID, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE image SET name = NULL WHERE name = ? AND id <> ?`, i.Name, i.ID); err != nil {
			return err
		}
		if i.Default {
			if _, err := tx.ExecContext(ctx, `UPDATE image SET is_default = 0 WHERE id <> ?`, i.ID); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO image (`+imageColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, is_default = excluded.is_default,
				os = excluded.os, release = excluded.release, rootfs = excluded.rootfs, kernel = excluded.kernel,
				initramfs = excluded.initramfs, modules = excluded.modules, source = excluded.source, vmlinux = excluded.vmlinux`, imageValues(i)...)
		return err
	})
}

// Images returns all images, named ones first, by name and age.
func (s *Store) Images(ctx context.Context) ([]banger.Image, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT `+imageColumns+` FROM image ORDER BY name IS NULL, name, created_at, id`)
	if err != nil {
		return nil, s.failed("list images", err)
	}
	all, err := collect(rows, scanImage)
	return all, s.failed("list images", err)
}

// Image returns the image of that name, else the one whose ID begins with ref
// (at least 4 digits); errors as of FindVM.
func (s *Store) Image(ctx context.Context, ref string) (banger.Image, error) {
	all, err := s.Images(ctx)
	if err != nil {
		return banger.Image{}, err
	}
	return find("image", ref, all, func(i banger.Image) (string, string) { return i.Name, i.ID }, unknownImage)
}

// DefaultImage returns the image that a VM gets when nobody names one.
func (s *Store) DefaultImage(ctx context.Context) (banger.Image, error) {
	i, err := scanImage(s.db.QueryRowContext(ctx, `SELECT `+imageColumns+` FROM image WHERE is_default = 1`))
	if errors.Is(err, sql.ErrNoRows) {
		return i, banger.Errorf(banger.NotFound, "there is no default image").WithRemedy("banger bundle build")
	}
	return i, s.failed("read the default image", err)
}

// ImageUsers returns the names of the VMs made from an image, sorted.
func (s *Store) ImageUsers(ctx context.Context, id string) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT name FROM vm WHERE image_id = ? ORDER BY name`, id)
	if err != nil {
		return nil, s.failed("list users of image "+id, err)
	}
	names, err := collect(rows, scanName)
	return names, s.failed("list users of image "+id, err)
}

func scanName(row scanner) (name string, err error) {
	err = row.Scan(&name)
	return name, err
}

// DeleteImage forgets an image; one that is not there is success. One that a
// VM uses is WrongState, with the VMs' names.
func (s *Store) DeleteImage(ctx context.Context, id string) error {
	return s.write(ctx, "delete image "+id, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT name FROM vm WHERE image_id = ? ORDER BY name`, id)
		if err != nil {
			return err
		}
		users, err := collect(rows, scanName)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return banger.Errorf(banger.WrongState, "image %s is used by %s", id, strings.Join(users, ", ")).
				WithRemedy("banger rm %s", strings.Join(users, " "))
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM image WHERE id = ?`, id)
		return err
	})
}
