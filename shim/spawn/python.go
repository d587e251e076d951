package spawn

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dora-go/dora/dataflow"
)

// Runner executes a short program and returns its standard output and error together.
type Runner func(argv []string, dir string, env []string, limit time.Duration) (string, error)

// python chooses the interpreter of Python nodes as upstream dora does (`uv python find`,
// else `python` unless it is Python 2, else `python3`), with as few processes as possible:
// uv answers an active environment or a .venv without being asked, and otherwise it is
// asked once per dataflow and folder.
type python struct {
	env []string
	run Runner

	mu    sync.Mutex
	known map[string]answer // by folder
}

type answer struct {
	path string
	err  error
}

func (p *python) find(dir string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a, ok := p.known[dir]; ok {
		return a.path, a.err
	}
	path, err := p.choose(dir)
	if p.known == nil {
		p.known = map[string]answer{}
	}
	p.known[dir] = answer{path, err}
	return path, err
}

func (p *python) choose(dir string) (string, error) {
	if venv, ok := dataflow.LookupEnv(p.env, "VIRTUAL_ENV"); ok {
		if path := filepath.Join(venv, "bin", "python"); filepath.IsAbs(venv) && isFile(path) {
			return path, nil
		}
	}
	if uv := dataflow.LookPath("uv", p.env); uv != "" {
		if venv := dataflow.NearestVenv(dir); venv != "" {
			return filepath.Join(venv, "bin", "python"), nil
		}
		out, err := p.run([]string{uv, "python", "find"}, dir, p.env, 20*time.Second)
		if path := strings.TrimSpace(out); err == nil && filepath.IsAbs(path) && isFile(path) {
			return path, nil
		}
	}
	if path := dataflow.LookPath("python", p.env); path != "" && p.isPython3(path, dir) {
		return path, nil
	}
	if path := dataflow.LookPath("python3", p.env); path != "" {
		return path, nil
	}
	return "", errors.New("there is no `python3` on PATH; install Python 3, or activate an environment before the dataflow is started")
}

// isPython3 looks at the name behind the links first, and asks the program only if that
// does not tell.
func (p *python) isPython3(path, dir string) bool {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		switch base := filepath.Base(real); {
		case strings.HasPrefix(base, "python3"):
			return true
		case strings.HasPrefix(base, "python2"):
			return false
		}
	}
	out, err := p.run([]string{path, "--version"}, dir, p.env, 10*time.Second)
	return err == nil && !strings.HasPrefix(strings.TrimSpace(out), "Python 2.")
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}
