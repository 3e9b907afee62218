package store_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"banger"
)

func TestCreateTwice(t *testing.T) {
	s := fresh(t)
	create(t, s, 1, "web")
	_, err := s.CreateVM(t.Context(), record(2, "web"), func([]banger.Lease) (banger.Lease, error) {
		t.Error("leased for a name that is taken")
		return banger.Lease{}, nil
	})
	wantCode(t, err, banger.Exists, "web", "00000001", "banger rm web")
}

// Two creates of one name at once: one VM, one Exists.
func TestCreateAtOnce(t *testing.T) {
	s := fresh(t)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { _, errs[i] = s.CreateVM(t.Context(), record(i, "web"), lease) })
	}
	wg.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
		} else {
			wantCode(t, err, banger.Exists)
		}
	}
	if all, err := s.VMs(t.Context()); made != 1 || len(all) != 1 || err != nil {
		t.Errorf("%d made, %d rows, %v", made, len(all), err)
	}
}

// Eight writers at once create, change and delete; no lease is given twice and
// no change is lost.
func TestWriters(t *testing.T) {
	s := fresh(t)
	const writers, each = 8, 10
	var wg sync.WaitGroup
	shared := create(t, s, 9999, "shared")
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				r, err := s.CreateVM(t.Context(), record(w*100+i, "vm-"+strings.Repeat("x", w+1)+strings.Repeat("y", i)), lease)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.UpdateVM(t.Context(), shared.ID, func(r *banger.Record) error { r.Spec.CPUs++; return nil }); err != nil {
					t.Error(err)
				}
				if i%2 == 0 {
					if err := s.DeleteVM(t.Context(), r.ID); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	all, err := s.VMs(t.Context())
	if err != nil || len(all) != writers*each/2+1 {
		t.Fatalf("%d VMs, %v", len(all), err)
	}
	seen := map[netip.Addr]bool{}
	for i, r := range all {
		if seen[r.Lease.Addr] {
			t.Errorf("%s was leased twice", r.Lease.Addr)
		}
		seen[r.Lease.Addr] = true
		if i > 0 && all[i-1].Spec.Name >= r.Spec.Name {
			t.Error("not sorted by name")
		}
	}
	if r, _ := s.VM(t.Context(), shared.ID); r.Spec.CPUs != shared.Spec.CPUs+writers*each {
		t.Errorf("%d changes, want %d", r.Spec.CPUs-shared.Spec.CPUs, writers*each)
	}
}

// What cannot be stored leaves nothing behind.
func TestCreateFails(t *testing.T) {
	s := fresh(t)
	full := errors.New("no address left")
	_, err := s.CreateVM(t.Context(), record(1, "web"), func([]banger.Lease) (banger.Lease, error) { return banger.Lease{}, full })
	if !errors.Is(err, full) {
		t.Errorf("err = %v", err)
	}
	for name, spoil := range map[string]func(*banger.Record){
		"cpus": func(r *banger.Record) { r.Spec.CPUs = 0 }, "memory": func(r *banger.Record) { r.Spec.Memory = -1 },
		"disk": func(r *banger.Record) { r.Spec.Disk = 0 }, "work disk": func(r *banger.Record) { r.Spec.WorkDisk = -1 }, "name": func(r *banger.Record) { r.Spec.Name = "" },
		"network": func(r *banger.Record) { r.Spec.Network = banger.NetworkAuto }, "intent": func(r *banger.Record) { r.Intent = "" },
		"image": func(r *banger.Record) { r.ImageID = "ffffffffffff" }, "id": func(r *banger.Record) { r.ID = "0BADCAFE" },
	} {
		r := record(1, "web")
		spoil(&r)
		if _, err := s.CreateVM(t.Context(), r, lease); banger.CodeOf(err) != banger.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := create(t, s, 2, "other")
	_, err = s.CreateVM(t.Context(), record(1, "web"), func([]banger.Lease) (banger.Lease, error) { return other.Lease, nil })
	wantCode(t, err, banger.Internal)
	if all, err := s.VMs(t.Context()); len(all) != 1 || err != nil {
		t.Errorf("%d VMs, %v", len(all), err)
	}
}

func TestUpdateFails(t *testing.T) {
	s := fresh(t)
	web, api := create(t, s, 1, "web"), create(t, s, 2, "api")
	stop := errors.New("stop")
	for name, c := range map[string]struct {
		change func(*banger.Record) error
		code   banger.Code
	}{
		"own error":  {func(r *banger.Record) error { r.Spec.CPUs = 9; return stop }, banger.Internal},
		"lease":      {func(r *banger.Record) error { r.Lease = api.Lease; return nil }, banger.Internal},
		"ID":         {func(r *banger.Record) error { r.ID = "0badcafe"; return nil }, banger.Internal},
		"image":      {func(r *banger.Record) error { r.ImageID = "0"; return nil }, banger.Internal},
		"taken name": {func(r *banger.Record) error { r.Spec.Name = "api"; return nil }, banger.Exists},
		"zero":       {func(r *banger.Record) error { r.Spec.CPUs = 0; return nil }, banger.Internal},
	} {
		if _, err := s.UpdateVM(t.Context(), web.ID, c.change); banger.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := s.VM(t.Context(), web.ID); err != nil || !reflect.DeepEqual(got, web) {
			t.Errorf("%s: the record is %+v, %v", name, got, err)
		}
	}
	_, err := s.UpdateVM(t.Context(), "ffffffff", func(*banger.Record) error { t.Error("called"); return nil })
	wantCode(t, err, banger.NotFound, "banger ps")
}

func TestDeleteVM(t *testing.T) {
	s := fresh(t)
	web := create(t, s, 1, "web")
	for range 2 { // idempotent
		if err := s.DeleteVM(t.Context(), web.ID); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.VM(t.Context(), web.ID)
	wantCode(t, err, banger.NotFound)
	if again := create(t, s, 2, "web"); again.Lease != web.Lease {
		t.Errorf("the lease did not come back: %+v", again.Lease)
	}
}

func TestFindVM(t *testing.T) {
	s := fresh(t)
	create(t, s, 0xcafe0001, "web")
	create(t, s, 0xcafe0002, "database")
	create(t, s, 0xbeef0003, "cafe") // an exact name wins over any ID
	create(t, s, 0x12345678, "1234")
	for ref, want := range map[string]string{
		"web": "web", "cafe0001": "web", "cafe0002": "database", "beef": "cafe", "cafe": "cafe", "1234": "1234", "12345": "1234",
	} {
		if r, err := s.FindVM(t.Context(), ref); err != nil || r.Spec.Name != want {
			t.Errorf("%s is %q, %v; want %s", ref, r.Spec.Name, err, want)
		}
	}
	for ref, words := range map[string][]string{
		"wbe": {"did you mean web?", "banger ps"}, "databse": {"did you mean database?"}, "datbas": {"database?"}, "WEB": {"web?"}, "data": {"database?"},
		"zzz": {`no VM named "zzz"`}, "": {`no VM named ""`}, "bee": {"beef"}, "%": {"%"},
	} {
		_, err := s.FindVM(t.Context(), ref)
		if ref == "bee" || ref == "%" { // three digits are too few for an ID
			words = []string{"no VM named"}
		}
		wantCode(t, err, banger.NotFound, words...)
	}
	_, err := s.FindVM(t.Context(), "cafe000")
	wantCode(t, err, banger.Invalid, "cafe0001 web", "cafe0002 database")
	if strings.Contains(err.Error(), "beef") {
		t.Errorf("lists others: %v", err)
	}
}

// A caller that goes away is told so, and what it began is not there.
func TestCanceled(t *testing.T) {
	s := fresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.CreateVM(ctx, record(1, "web"), func(l []banger.Lease) (banger.Lease, error) { cancel(); return lease(l) })
	wantCode(t, err, banger.Canceled)
	_, err = s.VMs(ctx)
	wantCode(t, err, banger.Canceled)
	if all, err := s.VMs(t.Context()); len(all) != 0 || err != nil {
		t.Errorf("%v %v", all, err)
	}
}

// All callers get one value, the first that was made; it outlives the process.
func TestSetting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banger.db")
	s := open(t, path)
	no := errors.New("no")
	if _, err := s.Setting(t.Context(), "tag", func() (string, error) { return "", no }); !errors.Is(err, no) {
		t.Errorf("err = %v", err)
	}
	var wg sync.WaitGroup
	got := make([]string, 8)
	for i := range got {
		wg.Go(func() {
			got[i], _ = s.Setting(t.Context(), "tag", func() (string, error) { return string(rune('a' + i)), nil })
		})
	}
	wg.Wait()
	s.Close()
	again, err := open(t, path).Setting(t.Context(), "tag", func() (string, error) { return "", no })
	for _, v := range got {
		if v != again || v == "" || err != nil {
			t.Errorf("%q, later %q, %v", got, again, err)
		}
	}
}
