"""How grid.py does it: the same in every project, nothing to edit, only Python's standard library. Read folder.py first.

A job is a folder. Each time tasks of it are handed to the scheduler it gets a numbered subfolder, a submission. Each
task that runs leaves one file in the records of its submission, whose name tells how it ended.

Every room imports only from those above it in this list:

    errors, project        what can go wrong; where the project is, its settings, small helpers
    values, resources, provenance
                           arguments as text and back; what a job asks for; the state of the code
    schedulers/            Grid Engine, Slurm, the background of this machine: all that differs between them
    submission, folder     a job's folder: every file in it, who writes it and when
    states                 the state of a task, decided from what was seen
    polling                ask: reads folders and queues
    dispatch, stopping     tell: submit tasks, stop jobs. These three do not know each other
    job, submit            what a user holds; a new job
    site, testjob          what a site offers; a job that tells which packages are missing (packages.py)
    doctor, commands, grid.py
                           what a user calls, from the shell and from Python

Inside the job runs run.py, which job.sh starts. A new scheduler is one file in schedulers/ and a line in
its __init__.py; what the doctor and the template's questions ask of its site is in site.py and doctor.py.
"""
