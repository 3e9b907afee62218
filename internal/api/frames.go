package api

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"sync"
)

// A frameWriter lets many goroutines write frames to one connection, each
// whole, in the order of their calls.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frameWriter) write(t FrameType, p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return WriteFrame(f.w, t, p)
}

func (f *frameWriter) writeJSON(t FrameType, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.write(t, p)
}

func (f *frameWriter) ack(n int) error {
	return f.write(FrameAck, binary.BigEndian.AppendUint32(nil, uint32(n)))
}

// stream is a Writer whose bytes go out as frames of type t.
func (f *frameWriter) stream(t FrameType) io.Writer { return &frameStream{f, t} }

type frameStream struct {
	f *frameWriter
	t FrameType
}

func (s *frameStream) Write(p []byte) (n int, err error) {
	for len(p) > 0 { // an empty frame is end of file, never data
		k := min(len(p), MaxFrame)
		if err := s.f.write(s.t, p[:k]); err != nil {
			return n, err
		}
		n += k
		p = p[k:]
	}
	return n, nil
}
