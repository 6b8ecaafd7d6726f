# Root is in the shipped whitelist and still not protected, as in v1; `protect_root = true` protects it.
memmon_runs_with 'check_interval = 1'
hog unprotected anon 70M hold
died unprotected SIGTERM
must_say 'Killing process: PID=[0-9]+, Name=hog, User=root'
memmon_runs_with 'check_interval = 1' 'protect_root = true'
hog protected anon 70M hold
hog_holds protected
mark
within $PATIENCE scanned_since 3 || fail 'no three scans'
lives protected
hog_ends protected
