"""Self-contained HTML reports, shared by the stages that write one."""
