package filetree_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"banger/internal/filetree"
)

// What was written is read again, whatever it is and in whatever pieces.
func TestCompress(t *testing.T) {
	noise := make([]byte, 700<<10)
	rand.NewChaCha8([32]byte{}).Read(noise)
	for _, data := range [][]byte{nil, noise[:1], noise[:31], noise, make([]byte, 700<<10), bytes.Repeat(noise[:1000], 500)} {
		for _, piece := range []int{1 << 10, 256 << 10, 1 << 20} {
			var way bytes.Buffer
			w := filetree.Compress(&way)
			for rest := data; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
				n, err := w.Write(rest[:min(piece, len(rest))])
				if err != nil || n != min(piece, len(rest)) {
					t.Fatalf("wrote %d, %v", n, err)
				}
			}
			must(t, w.Close())
			must(t, w.Close())
			if most := len(data) + 16*(len(data)/min(piece, 256<<10)+2); way.Len() > most {
				t.Errorf("%d bytes became %d", len(data), way.Len())
			}
			got, err := io.ReadAll(filetree.Decompress(&way))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes in pieces of %d came back as %d, %v", len(data), piece, len(got), err)
			}
		}
	}
}

// A way that breaks is told of, by a later Write or at the end.
func TestCompressToNowhere(t *testing.T) {
	broken := errors.New("broken")
	r, pipe := io.Pipe()
	r.CloseWithError(broken)
	w := filetree.Compress(pipe)
	var err error
	for range 10 {
		if _, err = w.Write(make([]byte, 1<<20)); err != nil {
			break
		}
	}
	if !errors.Is(err, broken) || !errors.Is(w.Close(), broken) {
		t.Errorf("%v, then %v", err, w.Close())
	}
}
