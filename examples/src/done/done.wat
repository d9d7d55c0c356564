;; done ends at once with exit code 0: the smallest task there is, so that a
;; job of it costs what the cluster costs and nothing else.
(module
  (memory (export "memory") 1 1)
  (func (export "_start")))
