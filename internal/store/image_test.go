package store_test

import (
	"testing"
	"time"

	"banger"
)

// A newer image takes the name and the default; the older one stays for the
// VMs that were made from it, found by its ID.
func TestNameMoves(t *testing.T) {
	s := fresh(t)
	old, next := image(1, "debian-12"), image(2, "debian-12")
	next.CreatedAt = epoch.Add(time.Hour)
	if err := s.PutImage(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{"debian-12": next.ID, old.ID: old.ID} {
		if i, err := s.Image(t.Context(), ref); err != nil || i.ID != want {
			t.Errorf("%s is %s, %v", ref, i.ID, err)
		}
	}
	if i, err := s.DefaultImage(t.Context()); err != nil || i.ID != next.ID {
		t.Errorf("default %s, %v", i.ID, err)
	}
	all, err := s.Images(t.Context())
	if err != nil || len(all) != 2 || all[0].ID != next.ID || all[1].Name != "" || all[1].Default {
		t.Errorf("%+v %v", all, err)
	}
	// put again, as at each start: nothing changes but what is new
	next.Source, next.CreatedAt = "/c", epoch.Add(2*time.Hour)
	if err := s.PutImage(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if i, _ := s.Image(t.Context(), next.ID); i.Source != "/c" || !i.CreatedAt.Equal(epoch.Add(time.Hour)) {
		t.Errorf("%+v", i)
	}
	// back to the old one
	if err := s.PutImage(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if i, err := s.Image(t.Context(), "debian-12"); err != nil || i.ID != old.ID || !i.Default {
		t.Errorf("%+v %v", i, err)
	}
}

// Images without a name do not take each other's place.
func TestNamelessImages(t *testing.T) {
	s := fresh(t)
	for n := range 3 {
		i := image(n+2, "")
		i.Default = false
		if err := s.PutImage(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := s.Images(t.Context()); err != nil || len(all) != 4 || all[0].Name != "debian-12" {
		t.Errorf("%+v %v", all, err)
	}
	_, err := s.Image(t.Context(), "")
	wantCode(t, err, banger.NotFound)
}

func TestUnknownImage(t *testing.T) {
	s := fresh(t)
	_, err := s.Image(t.Context(), "debian-13")
	wantCode(t, err, banger.NotFound, `no image named "debian-13"`, "did you mean debian-12?", "banger image list")
	_, err = s.Image(t.Context(), "00000000000")
	if err != nil {
		t.Errorf("a unique prefix: %v", err)
	}
	if err := s.DeleteImage(t.Context(), image(1, "").ID); err != nil {
		t.Fatal(err)
	}
	_, err = s.DefaultImage(t.Context())
	wantCode(t, err, banger.NotFound, "banger bundle build")
}

func TestDeleteImage(t *testing.T) {
	s := fresh(t)
	id := image(1, "").ID
	create(t, s, 1, "web")
	create(t, s, 2, "api")
	if users, err := s.ImageUsers(t.Context(), id); err != nil || len(users) != 2 || users[0] != "api" {
		t.Errorf("%v %v", users, err)
	}
	wantCode(t, s.DeleteImage(t.Context(), id), banger.WrongState, "used by api, web", "banger rm api web")
	for n := range 2 {
		if err := s.DeleteVM(t.Context(), record(n+1, "").ID); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // idempotent
		if err := s.DeleteImage(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := s.Images(t.Context()); len(all) != 0 || err != nil {
		t.Errorf("%v %v", all, err)
	}
}

func TestStamps(t *testing.T) {
	s := fresh(t)
	d := digest(1)
	if _, ok, err := s.Stamp(t.Context(), d); ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
	want := banger.FileStamp{Size: 1, Inode: 1<<64 - 1, Mtime: -5, Ctime: 1<<63 - 1}
	for _, f := range []banger.FileStamp{{Size: 9}, want} {
		if err := s.PutStamp(t.Context(), d, f); err != nil {
			t.Fatal(err)
		}
	}
	if got, ok, err := s.Stamp(t.Context(), d); got != want || !ok || err != nil {
		t.Errorf("%+v %v %v", got, ok, err)
	}
	if all, err := s.Stamps(t.Context()); err != nil || len(all) != 1 || all[d] != want {
		t.Errorf("%v %v", all, err)
	}
	for range 2 {
		if err := s.DeleteStamp(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := s.Stamps(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%v %v", all, err)
	}
}
