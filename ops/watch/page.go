package watch

import (
	"bytes"
	"context"
	_ "embed"
	"html/template"
	"net/http"
	"sync"
	"time"

	"postraft/ops"
)

const (
	membersFor     = 2 * time.Second // how long what the members said is shown again
	membersTimeout = time.Second
)

//go:embed page.html
var pageSource string

// A page makes the page for a person.
type page struct{ template *template.Template }

func newPage() *page {
	return &page{template.Must(template.New("page").Parse(pageSource))}
}

// shown is what the page shows.
type shown struct {
	Version  string
	Why      string // why there is no node to show
	Reasons  []string
	Warnings []string
	Status   ops.Status
	Heard    time.Duration
	Members  []ops.Member
	NoList   string // why the members are not known
	Services []Service
	Now      time.Time
}

// membersCache keeps what the members said for a moment, so that many who look do not make many questions.
type membersCache struct {
	mu   sync.Mutex
	of   Agent
	at   time.Time
	list []ops.Member
	err  error
}

func (c *membersCache) get(ctx context.Context, a Agent) ([]ops.Member, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of != a || time.Since(c.at) >= membersFor {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), membersTimeout) // others look at the answer too
		defer cancel()
		c.list, c.err = a.Members(ctx)
		c.of, c.at = a, time.Now()
	}
	return c.list, c.err
}

func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	now := s.subject.Load()
	show := shown{Version: s.cfg.Version, Why: now.why, Now: time.Now().UTC().Truncate(time.Second)}
	if a := now.agent; a != nil {
		show.Status = a.Status()
		v := a.Vitals()
		show.Reasons, show.Warnings, show.Services = notReady(show.Status, &v), show.Status.Warnings, v.Services
		show.Heard = time.Duration(show.Status.LastContactMS) * time.Millisecond
		var err error
		if show.Members, err = s.members.get(r.Context(), a); err != nil {
			show.NoList = err.Error()
		}
	}
	var body bytes.Buffer
	if err := s.page.template.Execute(&body, show); err != nil {
		s.cfg.Logger.Error("page not made", "err", err)
		text(w, http.StatusInternalServerError, "the page cannot be made; the agent's log says why")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(body.Bytes()) // who does not take it has gone
}
