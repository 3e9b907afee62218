package handler

import (
	"net/http"
	"strconv"

	"banger"
	"banger/internal/api"
)

// vmEvents streams what happens to VMs.
func (h *Handler) vmEvents(w http.ResponseWriter, r *http.Request) {
	from, follow, err := eventsQuery(r)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	out, err := api.NewEventWriter(w)
	if err != nil {
		return // the client is gone
	}
	for e := range h.VMs.Events(r.Context(), from, follow) {
		if out.Write(e) != nil {
			return
		}
	}
}

func eventsQuery(r *http.Request) (from int64, follow bool, err error) {
	q := r.URL.Query()
	if s := q.Get("from"); s != "" {
		if from, err = strconv.ParseInt(s, 10, 64); err != nil || from < 0 {
			return 0, false, banger.Errorf(banger.Invalid, "from=%q is not a number of an event", s)
		}
	}
	if s := q.Get("follow"); s != "" {
		if follow, err = strconv.ParseBool(s); err != nil {
			return 0, false, banger.Errorf(banger.Invalid, "follow=%q is neither true nor false", s)
		}
	}
	return from, follow, nil
}
