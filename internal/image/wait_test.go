package image_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"
)

// A slow reporter keeps a Register at its first step.
type slow struct {
	reporter
	began, goOn chan struct{}
}

func (s *slow) Step(string) {
	select {
	case s.began <- struct{}{}:
		<-s.goOn
	default: // a later one
	}
}

// While one image is registered, which may take as long as hashing gigabytes does,
// nobody else waits: neither for an image that is there nor for what a deleted VM
// no longer needs.
func TestOthersDoNotWait(t *testing.T) {
	w := newWorld(t, false)
	one := newBundle(t, "one")
	img, _ := w.register(t, one)
	stray := filepath.Join(w.blobs, ".new-0")
	s := &slow{began: make(chan struct{}, 1), goOn: make(chan struct{})}
	two := newBundle(t, "two")
	done := make(chan error, 1)
	go func() {
		_, err := w.Register(context.Background(), two, "", s)
		done <- err
	}()
	<-s.began

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	again, err := w.Register(ctx, one, "", &reporter{})
	if err != nil || again.ID != img.ID || !again.CreatedAt.Equal(img.CreatedAt) {
		t.Errorf("an image that is there: %+v, %v", again, err)
	}
	write(t, stray, "")
	if err := w.Collect(ctx); err != nil {
		t.Errorf("collect: %v", err)
	}
	if len(w.blobNames(t)) != 5 {
		t.Errorf("collected under a registration: %q", w.blobNames(t))
	}
	close(s.goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// The first lost its name to the second, and was collected with the rest.
	if names := w.blobNames(t); len(names) != 4 {
		t.Errorf("left: %q", names)
	}
}
