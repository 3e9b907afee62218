package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"banger"
)

// columns of table vm, in the order of values and scanRecord.
const columns = `id, name, image, image_id, cpus, memory, disk, network, backend,
	isolated, nat, publish, allow_host, autostart, work_disk, address, mac, machine_id, host_key, intent, run, last_exit, problem, created_at`

// places are the parameters for columns.
var places = "(?" + strings.Repeat(",?", strings.Count(columns, ",")) + ")"

func values(r banger.Record) []any {
	return []any{
		r.ID, r.Spec.Name, r.Spec.Image, r.ImageID, r.Spec.CPUs, r.Spec.Memory, r.Spec.Disk, r.Spec.Network, r.Spec.Backend,
		r.Spec.Isolated, r.Spec.NAT, text(r.Spec.Publish), text(r.Spec.AllowHost), r.Spec.Autostart, r.Spec.WorkDisk,
		r.Lease.Addr.String(), r.Lease.MAC, r.Lease.MachineID, r.HostKey, r.Intent,
		optional(r.Run), optional(r.LastExit), optional(r.Problem), stamp(r.CreatedAt),
	}
}

// A scanner is a *sql.Row or *sql.Rows.
type scanner interface{ Scan(...any) error }

func scanRecord(row scanner) (r banger.Record, err error) {
	var addr, publish, allow string
	var run, exit, problem sql.NullString
	var created int64
	err = row.Scan(
		&r.ID, &r.Spec.Name, &r.Spec.Image, &r.ImageID, &r.Spec.CPUs, &r.Spec.Memory, &r.Spec.Disk, &r.Spec.Network, &r.Spec.Backend,
		&r.Spec.Isolated, &r.Spec.NAT, &publish, &allow, &r.Spec.Autostart, &r.Spec.WorkDisk, &addr, &r.Lease.MAC, &r.Lease.MachineID, &r.HostKey, &r.Intent, &run, &exit, &problem, &created)
	if err != nil {
		return banger.Record{}, err
	}
	if r.Lease.Addr, err = netip.ParseAddr(addr); err != nil {
		return banger.Record{}, fmt.Errorf("row of VM %s: %w", r.ID, err)
	}
	if err := json.Unmarshal([]byte(publish), &r.Spec.Publish); err != nil {
		return banger.Record{}, fmt.Errorf("row of VM %s: publish: %w", r.ID, err)
	}
	if err := json.Unmarshal([]byte(allow), &r.Spec.AllowHost); err != nil {
		return banger.Record{}, fmt.Errorf("row of VM %s: allow_host: %w", r.ID, err)
	}
	r.CreatedAt = moment(created)
	if r.Run, err = parse[banger.Run](run); err != nil {
		return banger.Record{}, fmt.Errorf("row of VM %s: run: %w", r.ID, err)
	}
	if r.LastExit, err = parse[banger.Exit](exit); err != nil {
		return banger.Record{}, fmt.Errorf("row of VM %s: last exit: %w", r.ID, err)
	}
	if r.Problem, err = parse[banger.Problem](problem); err != nil {
		return banger.Record{}, fmt.Errorf("row of VM %s: problem: %w", r.ID, err)
	}
	return r, nil
}

// imageColumns of table image, in the order of imageValues and scanImage.
const imageColumns = `id, name, is_default, os, release, rootfs, kernel, initramfs, modules, created_at, source, vmlinux`

func imageValues(i banger.Image) []any {
	return []any{
		i.ID, sql.NullString{String: i.Name, Valid: i.Name != ""}, i.Default, i.OS, i.Release,
		text(i.Rootfs), text(i.Kernel), text(i.Initramfs), text(i.Modules), stamp(i.CreatedAt), i.Source,
		text(i.VMLinux),
	}
}

func scanImage(row scanner) (i banger.Image, err error) {
	var name sql.NullString
	var artifact [5]string
	var created int64
	err = row.Scan(&i.ID, &name, &i.Default, &i.OS, &i.Release,
		&artifact[0], &artifact[1], &artifact[2], &artifact[3], &created, &i.Source, &artifact[4])
	if err != nil {
		return banger.Image{}, err
	}
	i.Name, i.CreatedAt = name.String, moment(created)
	for n, a := range []*banger.Artifact{&i.Rootfs, &i.Kernel, &i.Initramfs, &i.Modules, &i.VMLinux} {
		if err := json.Unmarshal([]byte(artifact[n]), a); err != nil {
			return banger.Image{}, fmt.Errorf("row of image %s: %w", i.ID, err)
		}
	}
	return i, nil
}

// optional is the JSON of *v, NULL for nil.
func optional[T any](v *T) sql.NullString {
	if v == nil {
		return sql.NullString{}
	}
	return sql.NullString{String: text(v), Valid: true}
}

func parse[T any](s sql.NullString) (*T, error) {
	if !s.Valid {
		return nil, nil
	}
	v := new(T)
	if err := json.Unmarshal([]byte(s.String), v); err != nil {
		return nil, err
	}
	return v, nil
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // the domain's types all have a JSON form
	}
	return string(b)
}

// stamp and moment are a time's column; the zero time is 0.
func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func moment(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
