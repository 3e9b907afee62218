package client_test

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
)

// events answers op o1 with all, cut off after each number in breaks, once.
func events(t *testing.T, all []banger.Event, breaks ...int) *http.ServeMux {
	var mu sync.Mutex // a request may come while the one before it is ending
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/vm.create", func(w http.ResponseWriter, r *http.Request) {
		api.WriteJSON(w, api.OpStarted{Op: "o1"})
	})
	mux.HandleFunc("GET /v1/op/o1/events", func(w http.ResponseWriter, r *http.Request) {
		from, err := strconv.Atoi(r.FormValue("from"))
		if err != nil {
			t.Error(err)
		}
		ew, err := api.NewEventWriter(w)
		if err != nil {
			t.Error(err)
			return
		}
		for n := from; n < len(all); n++ {
			mu.Lock()
			cut := len(breaks) > 0 && breaks[0] == n
			if cut {
				breaks = breaks[1:]
			}
			mu.Unlock()
			if cut {
				panic(http.ErrAbortHandler)
			}
			e := all[n]
			e.N = n
			ew.Write(e)
		}
	})
	return mux
}

func TestWait(t *testing.T) {
	want := banger.VM{ID: "00000001", Spec: banger.Spec{Name: "web"}, State: banger.StateRunning}
	all := []banger.Event{
		{Type: banger.EventStep, Step: "disk"},
		{Type: banger.EventStepDone, Step: "disk"},
		{Type: banger.EventMessage, Message: "hello"},
		{Type: banger.EventDone, Result: want},
	}
	// Broken at the start, between, twice at one place and before the end.
	c := serve(t, events(t, all, 0, 2, 2, 3))
	op, err := c.CreateVM(limited(t), api.CreateRequest{})
	if err != nil || op.ID != "o1" {
		t.Fatalf("got %+v, %v", op, err)
	}
	var seen []int
	vm, err := op.Wait(limited(t), func(e banger.Event) { seen = append(seen, e.N) })
	if err != nil || !reflect.DeepEqual(vm, want) {
		t.Errorf("got %+v, %v", vm, err)
	}
	if !reflect.DeepEqual(seen, []int{0, 1, 2, 3}) {
		t.Errorf("events %v", seen)
	}
	if vm, err := client.Attach[banger.VM](c, "o1").Wait(limited(t), nil); err != nil || vm.ID != want.ID {
		t.Errorf("attached later: %+v, %v", vm, err)
	}
}

func TestWaitFails(t *testing.T) {
	want := banger.Errorf(banger.HostUnready, "no QEMU").WithRemedy("apt install qemu-system-x86")
	c := serve(t, events(t, []banger.Event{{Type: banger.EventFailed, Error: want}}))
	_, err := client.Attach[banger.VM](c, "o1").Wait(limited(t), nil)
	var got *banger.Error
	if !errors.As(err, &got) || *got != *want {
		t.Errorf("got %#v", err)
	}
}

func TestWaitGivesUp(t *testing.T) {
	t.Run("stream ends again and again", func(t *testing.T) {
		c := serve(t, events(t, nil))
		if _, err := client.Attach[banger.VM](c, "o1").Wait(limited(t), nil); banger.CodeOf(err) != banger.Lost {
			t.Errorf("got %v", err)
		}
	})
	t.Run("operation is unknown to a new daemon", func(t *testing.T) {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /v1/op/o1/events", func(w http.ResponseWriter, r *http.Request) {
			api.WriteError(w, banger.Errorf(banger.NotFound, "no such operation"))
		})
		if _, err := client.Attach[banger.VM](serve(t, mux), "o1").Wait(limited(t), nil); banger.CodeOf(err) != banger.NotFound {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no daemon", func(t *testing.T) {
		c := client.New("missing")
		_, err := client.Attach[banger.VM](c, "o1").Wait(limited(t), nil)
		if !errors.Is(err, client.ErrNoDaemon) || banger.CodeOf(err) != banger.Internal {
			t.Errorf("got %v", err)
		}
	})
	t.Run("events out of order", func(t *testing.T) {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /v1/op/o1/events", func(w http.ResponseWriter, r *http.Request) {
			ew, _ := api.NewEventWriter(w)
			ew.Write(banger.Event{N: 7})
		})
		if _, err := client.Attach[banger.VM](serve(t, mux), "o1").Wait(limited(t), nil); banger.CodeOf(err) != banger.Internal {
			t.Errorf("got %v", err)
		}
	})
}

// TestWaitLeavesTheOperation: whoever waited goes away, then asks it to end.
func TestWaitLeavesTheOperation(t *testing.T) {
	var canceled atomic.Value
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/op/o1/events", func(w http.ResponseWriter, r *http.Request) {
		ew, _ := api.NewEventWriter(w)
		ew.Write(banger.Event{N: 0, Type: banger.EventMessage})
		<-r.Context().Done()
	})
	mux.HandleFunc("POST /v1/op.cancel", func(w http.ResponseWriter, r *http.Request) {
		var req api.OpRequest
		if err := api.Decode(r, &req); err != nil {
			t.Error(err)
		}
		canceled.Store(req.Op)
		api.WriteJSON(w, struct{}{})
	})
	op := client.Attach[banger.VM](serve(t, mux), "o1")
	ctx, cancel := context.WithCancel(limited(t))
	if _, err := op.Wait(ctx, func(banger.Event) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if canceled.Load() != nil {
		t.Error("the operation was cancelled with its watcher")
	}
	if err := op.Cancel(limited(t)); err != nil || canceled.Load() != "o1" {
		t.Errorf("cancelled %v, %v", canceled.Load(), err)
	}
}
