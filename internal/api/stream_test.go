package api_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"banger/internal/api"
)

func TestFramesComeBack(t *testing.T) {
	var wire bytes.Buffer
	sent := [][]byte{[]byte("hello"), nil, bytes.Repeat([]byte{0}, api.MaxFrame)}
	for i, p := range sent {
		if err := api.WriteFrame(&wire, api.FrameType(i), p); err != nil {
			t.Fatal(err)
		}
	}
	if err := api.WriteFrame(&wire, api.FrameStdout, make([]byte, api.MaxFrame+1)); err == nil {
		t.Error("a frame beyond the limit was written")
	}
	buf := make([]byte, api.MaxFrame)
	for i, p := range sent {
		typ, got, err := api.ReadFrame(&wire, buf)
		if err != nil || typ != api.FrameType(i) || !bytes.Equal(got, p) {
			t.Errorf("frame %d: type %d, %d bytes, %v", i, typ, len(got), err)
		}
	}
	if _, _, err := api.ReadFrame(&wire, buf); err != io.EOF {
		t.Errorf("after the last frame: %v", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0, 2, 'h', 'i'})
	f.Add([]byte{1, 0, 0, 0, 3, 'h', 'i'})
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{5, 0, 1, 0, 1})
	buf := make([]byte, api.MaxFrame)
	f.Fuzz(func(t *testing.T, wire []byte) {
		r := bytes.NewReader(wire)
		var again bytes.Buffer
		for {
			typ, p, err := api.ReadFrame(r, buf)
			switch {
			case err == io.EOF:
				if again.Len() != len(wire) {
					t.Fatalf("end of file after %d of %d bytes", again.Len(), len(wire))
				}
				return
			case err != nil:
				if errors.Is(err, io.EOF) {
					t.Fatal("a cut frame looks like the end")
				}
				return
			}
			if err := api.WriteFrame(&again, typ, p); err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(wire, again.Bytes()) {
				t.Fatal("frames differ from what was read")
			}
		}
	})
}
