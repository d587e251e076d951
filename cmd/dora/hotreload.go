package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/fsnotify/fsnotify"
	"github.com/sirupsen/logrus"
)

// operatorFile is the code of one Python operator.
type operatorFile struct{ node, operator, path string }

// operatorFiles lists the files of the Python operators of a dataflow.
func operatorFiles(d *dataflow.Descriptor) []operatorFile {
	var out []operatorFile
	for _, n := range d.Nodes {
		for _, o := range n.Operators {
			if o.Source != dataflow.OperatorPython || dataflow.IsURL(o.Location) {
				continue
			}
			path := o.Location
			if !filepath.IsAbs(path) {
				path = filepath.Join(d.NodeDir(n), path)
			}
			out = append(out, operatorFile{n.ID, o.ID, filepath.Clean(path)})
		}
	}
	return out
}

// settle is how long a file must be left alone before it is loaded: editors write in
// several steps.
const settle = 100 * time.Millisecond

// hotReload calls reload for every file that was changed, until stop is called. Folders
// are watched, not files: many editors replace a file by another of its name.
func hotReload(files []operatorFile, reload func(operatorFile) error, log *logrus.Logger) (stop func(), err error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("--hot-reload: %w\n  fix: raise fs.inotify.max_user_instances, or leave --hot-reload out", err)
	}
	byPath := map[string][]operatorFile{}
	for _, f := range files {
		if err := w.Add(filepath.Dir(f.path)); err != nil {
			_ = w.Close()
			return nil, fmt.Errorf("--hot-reload: watch %s: %w\n  fix: raise fs.inotify.max_user_watches, or leave --hot-reload out", filepath.Dir(f.path), err)
		}
		byPath[f.path] = append(byPath[f.path], f)
	}
	if len(files) == 0 {
		log.Warn("--hot-reload has nothing to watch: the dataflow has no Python operators with a local file")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		watchReloads(w, byPath, reload, log)
	}()
	return func() { _ = w.Close(); <-done }, nil
}

func watchReloads(w *fsnotify.Watcher, byPath map[string][]operatorFile, reload func(operatorFile) error, log *logrus.Logger) {
	changed := map[string]bool{}
	quiet := time.NewTimer(settle)
	quiet.Stop()
	defer quiet.Stop()
	for {
		select {
		case e, ok := <-w.Events:
			if !ok {
				return
			}
			if path := filepath.Clean(e.Name); byPath[path] != nil && e.Op&(fsnotify.Write|fsnotify.Create) != 0 {
				changed[path] = true
				quiet.Reset(settle)
			}
		case err, ok := <-w.Errors:
			if !ok {
				return
			}
			log.Warnf("--hot-reload: %v; a change may have been missed", err)
		case <-quiet.C:
			for path := range changed {
				for _, f := range byPath[path] {
					if err := reload(f); err != nil {
						log.Warnf("operator %s of node %s was not reloaded: %v", f.operator, f.node, err)
						continue
					}
					log.Infof("reloading operator %s of node %s (%s changed)", f.operator, f.node, path)
				}
			}
			clear(changed)
		}
	}
}
