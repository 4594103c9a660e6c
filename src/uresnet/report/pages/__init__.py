"""The pages: of a registration, of a segmentation, of a training, and the index of many registrations."""

from uresnet.report.pages.folder import write_pages
from uresnet.report.pages.registration import PAGE, registration_page
from uresnet.report.pages.segmentation import predicted_t1_page, segmentation_page
from uresnet.report.pages.training import training_page

__all__ = ["PAGE", "predicted_t1_page", "registration_page", "segmentation_page", "training_page", "write_pages"]
